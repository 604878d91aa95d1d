"""SiteLoRA's aggregators in NVFlare's own FedAvg recipe, on a toy network: python job.py --aggregator lora_svd."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.client.config import TransferType
from nvflare.recipe import SimEnv
from toy import CASES, ToyLoRA, error

from sitelora.flare.aggregators import LoRASVDAggregator, SGCAAggregator

HERE = Path(__file__).resolve().parent


def recipe(aggregator: str, rounds: int) -> FedAvgRecipe:
    """Return NVFlare's stock FedAvg with one of the two aggregators."""
    return FedAvgRecipe(
        name=f"toy_{aggregator}",
        model=ToyLoRA(),
        min_clients=len(CASES),
        num_rounds=rounds,
        train_script=str(HERE / "client.py"),
        aggregator=LoRASVDAggregator() if aggregator == "lora_svd" else SGCAAggregator(temperature=0.5),
        # Products need whole factors; similarity compares what the sites changed.
        params_transfer_type=TransferType.FULL if aggregator == "lora_svd" else TransferType.DIFF,
        key_metric="loss",
        key_metric_mode="min",
    )


def main() -> None:
    """Run the job in NVFlare's simulator and say how far the model came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aggregator", choices=("lora_svd", "sgca"), default="lora_svd")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workspace", type=Path, default=HERE / "run", help="NVFlare empties what it uses in there")
    args = parser.parse_args()
    job = recipe(args.aggregator, args.rounds)
    job.run(SimEnv(clients=sorted(CASES), num_threads=len(CASES), workspace_root=str(args.workspace)))
    path = args.workspace / job.name / "server" / "simulate_job" / "app_server" / "FL_global_model.pt"
    model = ToyLoRA()
    before = error(model)
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    sys.stdout.write(f"{job.name}: error {before:.3f} before, {error(model):.3f} after {args.rounds} rounds: {path}\n")


if __name__ == "__main__":
    main()
