"""Time and peak memory of segment_anything's attention and of its packed and folded forms, at the shapes of SAM.

    python benchmarks/attention.py --out benchmarks/results/attention.json

Every case is one attention module as in LoRA training (frozen weights, gradients to its input), in a process of its
own, so that peak memory is its own. `networks/attention.py` takes its default from the answer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from pathlib import Path

import torch

from sitelora.networks.attention import FOLDED, PACKED, SEGMENT_ANYTHING, FoldedAttention
from sitelora.networks.packed_attention import PackedAttention
from sitelora.networks.upstream import load_modeling

# name, width, heads, windows or pictures in the batch, side in tokens
CASES = (
    ("sam_tiny 128 px window", 192, 3, 32, 8),
    ("sam_tiny 128 px global", 192, 3, 8, 16),
    ("vit_b 224 px window or global", 768, 12, 4, 14),
    ("vit_b 256 px global", 768, 12, 4, 16),
    ("vit_b 512 px window", 768, 12, 9, 14),
    ("vit_b 512 px global", 768, 12, 1, 32),
    ("vit_b 1024 px window", 768, 12, 25, 14),
    ("vit_b 1024 px global", 768, 12, 1, 64),
)


def measure(width: int, heads: int, batch: int, side: int, kind: str, dtype: str, seconds: float, threads: int) -> dict:
    """Return milliseconds of a forward and backward pass (processor time, best of several) and the memory."""
    torch.set_num_threads(threads)
    ours = {FOLDED: FoldedAttention, PACKED: PackedAttention}
    make = ours.get(kind) or load_modeling().image_encoder.Attention
    torch.manual_seed(0)
    module = make(width, num_heads=heads, use_rel_pos=True, input_size=(side, side)).requires_grad_(False)
    if dtype == "bf16":
        module.qkv.bfloat16()
        module.proj.bfloat16()
    x = torch.randn(batch, side, side, width, requires_grad=True)
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = []
    stop = time.monotonic() + seconds
    while len(times) < 2 or time.monotonic() < stop:
        started = time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            out = module(x)
        out.float().square().mean().backward()
        times.append(time.process_time() - started)
        x.grad = None
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"train_ms": round(min(times) * 1000, 2), "runs": len(times), "peak_added_mb": round(peak_mb - before_mb, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each measurement, at least two runs")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    rows = []
    for name, width, heads, batch, side in CASES:
        for dtype in ("fp32", "bf16"):
            row: dict = {"case": name, "dtype": dtype, "tokens": side * side, "batch": batch}
            for kind in (SEGMENT_ANYTHING, PACKED, FOLDED):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    row[kind] = pool.apply(
                        measure, (width, heads, batch, side, kind, dtype, args.seconds, args.threads)
                    )
            for kind in (PACKED, FOLDED):
                row[f"{kind}_speedup"] = round(row[SEGMENT_ANYTHING]["train_ms"] / row[kind]["train_ms"], 2)
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    result = {
        "what": "one attention module, forward and backward, frozen weights; processor time, best of runs",
        "threads": args.threads,
        "hardware": f"{processor()}, {os.cpu_count()} cores, shared with other work",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
