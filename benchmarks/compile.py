"""What the setting `compile` costs and saves: seconds of compilation, a step eager and compiled, the break-even.

    python benchmarks/compile.py --out benchmarks/results/compile.json

Each row is one network, image size and precision on random pixels, with the steps of `step.py`: LoRA of rank 8 on q and
v, the bundles' loss, AdamW. Eager and compiled take turns, one step each, so that what else the machine does falls on
both; the figures are medians. Compilation is the first compiled step, with nothing of it on disk before (``cold``), and
once more as a later process on this machine has it, which finds the code there (``warm``); one step is taken off each.
The break-even is after how many steps the time saved has paid for that, by processor time; null where one compiled is
no faster. What one call of the other differs by (loss, and gradients by the largest of them) stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from step import CASES, interleaved, ours, stepper
from torch import nn

from sitelora.adapters.base import modules_of
from sitelora.comparison.run import commit
from sitelora.federation.build_network import trained_parameters
from sitelora.federation.machine import hardware, versions
from sitelora.networks.compiled import compile_blocks
from sitelora.networks.precision import has_bf16


def seconds_of(step: Callable[[], None]) -> tuple[float, float]:
    """Return processor seconds of a call, its compilers' included, and those by the clock."""
    begun, clock = _processor(), time.perf_counter()
    step()
    return _processor() - begun, time.perf_counter() - clock


def _processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in trained_parameters(network).items() if p.grad is not None}


def _compile(network: nn.Module) -> nn.Module:
    return compile_blocks(network, [block for _, block in modules_of(network, "@blocks")])


def row(name: str, precision: str, *, rounds: int) -> dict[str, Any]:
    """Return the figures of one case."""
    arch, size, batch = CASES[name]
    networks = {who: ours(arch, size, precision=precision) for who in ("eager", "compiled")}
    steps = {who: stepper(network, size, batch, light=True) for who, network in networks.items()}
    _compile(networks["compiled"])
    torch._dynamo.utils.counters.clear()
    steps["eager"]()
    first = {"cold": seconds_of(steps["compiled"])}
    one, other = (gradients(network) for network in networks.values())
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    apart = max(float((one[key] - other[key]).abs().max()) for key in one)
    graphs = int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    times = interleaved(steps, rounds=rounds)
    torch._dynamo.reset()
    again = ours(arch, size, precision=precision)
    first["warm"] = seconds_of(stepper(_compile(again), size, batch, light=True))
    torch._dynamo.reset()
    eager, compiled = (times[who]["cpu_ms"] / 1000 for who in ("eager", "compiled"))
    found: dict[str, Any] = {
        "case": name,
        "precision": precision,
        "pictures": batch,
        "graphs": graphs,
        "times": times,
        "eager_over_compiled": round(eager / compiled, 2),
        "largest_gradient_difference": {"absolute": apart, "of_the_largest": apart / largest},
    }
    for when, (cpu_s, wall_s) in first.items():
        cost = max(0.0, cpu_s - compiled)
        found[f"{when}_compilation"] = {"cpu_s": round(cost, 1), "wall_s": round(wall_s - compiled, 1)}
        found[f"{when}_break_even_steps"] = round(cost / (eager - compiled)) if eager > compiled else None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=["vit_b 224", "sam_tiny 128"])
    parser.add_argument("--rounds", type=int, default=9, help="steps of each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    precisions = ["fp32", *(["bf16"] if has_bf16(torch.device("cpu")) else [])]
    rows, load = [], os.getloadavg()[0]
    for name in args.cases:
        for precision in precisions:
            # inductor asks at every compilation: each row starts with nothing on disk
            with tempfile.TemporaryDirectory(prefix="compile-") as cache:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
                rows.append(row(name, precision, rounds=args.rounds))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    cases = " ".join(f'"{name}"' for name in args.cases)
    result = {
        "what": "compilation of the encoder's blocks and a training step, medians; the processor is shared with others",
        "command": f"python benchmarks/compile.py --cases {cases} --rounds {args.rounds} --out FILE",
        "commit": commit(),
        "threads": 1,
        "load": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "seeds": {"network": 0, "pixels": 0},
        "hardware": hardware(),
        "versions": versions(),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # in this process, whose time is counted
    main()
