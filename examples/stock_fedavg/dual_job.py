"""Dual adapters in NVFlare's own FedAvg: the filter keeps the local pair at its site: python dual_job.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv
from toy import CASES, ToyDualLoRA, error

from sitelora.flare.dual_lora_filter import DualLoRAFilter

HERE = Path(__file__).resolve().parent


def recipe(rounds: int) -> FedAvgRecipe:
    """Return NVFlare's stock FedAvg with the filter on what comes in and on what goes out."""
    job = FedAvgRecipe(
        name="toy_dual",
        model=ToyDualLoRA(),
        min_clients=len(CASES),
        num_rounds=rounds,
        train_script=str(HERE / "client.py"),
        train_args="--dual",
        key_metric="loss",
        key_metric_mode="min",
    )
    job.add_client_input_filter(DualLoRAFilter(), tasks=["train"])
    job.add_client_output_filter(DualLoRAFilter(), tasks=["train"])
    return job


def main() -> None:
    """Run the job in NVFlare's simulator and say how far the global pair came, and that the local ones stayed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workspace", type=Path, default=HERE / "run", help="NVFlare empties what it uses in there")
    args = parser.parse_args()
    job = recipe(args.rounds)
    job.run(SimEnv(clients=sorted(CASES), num_threads=len(CASES), workspace_root=str(args.workspace)))
    path = args.workspace / job.name / "server" / "simulate_job" / "app_server" / "FL_global_model.pt"
    first, model = ToyDualLoRA(), ToyDualLoRA()
    found = {name: torch.as_tensor(value) for name, value in torch.load(path, weights_only=True)["model"].items()}
    model.load_state_dict(found, strict=False)
    stayed = all(torch.equal(found.get(n, v), v) for n, v in first.state_dict().items() if ".local." in n)
    sys.stdout.write(
        f"{job.name}: error {error(first):.3f} before, {error(model):.3f} after {args.rounds} rounds; "
        f"the server {'never saw' if stayed else 'SAW'} a local pair: {path}\n"
    )


if __name__ == "__main__":
    main()
