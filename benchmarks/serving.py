"""What a prediction costs: warm seconds and memory of `sitelora predict`, and a merged model's step beside the base's.

    python benchmarks/serving.py HOME/<federation>/<uid>/site-1/models/personal.pt

Writes `results/serving.json`: volumes are noise around a bright middle (time and memory ask for the extent alone). The
merged model and the base answer the same slices in turn; the ratio of their medians is what merging costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sitelora.comparison.run import commit
from sitelora.data.nifti import write_nifti
from sitelora.federation.machine import hardware, versions
from sitelora.serving.many_images import predict_many
from sitelora.serving.open_model import open_model
from sitelora.serving.outputs import Wanted

RESULT = Path(__file__).resolve().parent / "results" / "serving.json"
SMALL, LARGE = (160, 160, 10), (256, 256, 2000)
WARM_S, PEAK_BYTES, SLOWER = 2.0, 1.2e9, 1.03
"""What was to be reached."""
WATCHED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Starts a command from a small process: a child's peak counts what its parent holds when it is started."""


def draw(path: Path, extent: tuple[int, int, int]) -> Path:
    """Write a volume of an extent, 0.6 x 0.6 x 3 mm, int16."""
    rng = np.random.default_rng(0)
    x, y = (np.linspace(-1, 1, side) for side in extent[:2])
    bright = (600 * np.exp(-3 * (x[:, None] ** 2 + y[None] ** 2))).astype(np.int16)
    volume = rng.integers(0, 200, extent, dtype=np.int16)
    volume += bright[..., None]
    write_nifti(path, volume, np.diag([0.6, 0.6, 3.0, 1.0]))
    return path


def warm(model: Path, folder: Path, repeats: int) -> list[float]:
    """Return the seconds of one small volume after another in one call, the first left out."""
    for number in range(repeats + 1):
        draw(folder / f"small_{number}.nii.gz", SMALL)
    cases = predict_many(model, [folder], out=folder / "masks", wanted=Wanted())
    took = [case.seconds for case in cases if not case.refused]
    if len(took) != repeats + 1:
        raise SystemExit("a small volume was refused")
    return took[1:]


def large(model: Path, folder: Path) -> dict[str, float]:
    """Return seconds and peak resident bytes of the command on one volume of 2000 slices."""
    image = draw(folder / "large.nii.gz", LARGE)
    command = [
        sys.executable,
        "-m",
        "sitelora.cli",
        "predict",
        str(model),
        str(image),
        "--out",
        str(folder / "of_large"),
    ]
    started = time.monotonic()
    watched = subprocess.run([sys.executable, "-c", WATCHED, *command], check=True, capture_output=True, text=True)
    seconds = time.monotonic() - started
    return {"seconds": seconds, "peak_bytes": int(watched.stdout.split()[-1]) * 1024}


def beside_the_base(model: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Return median seconds of the merged model and of the base on eight slices, in turn."""
    opened = open_model(model, out=folder / "none")
    base = open_model(model, out=folder / "none").config.get_parsed_content("network_def").eval()
    size = int(opened.made["image_size"])
    slices = torch.rand(8, 1, size, size, generator=torch.Generator().manual_seed(0))
    took: dict[str, list[float]] = {"base": [], "merged": []}
    with torch.no_grad():
        for number in range(repeats + 2):
            for name, network in (("base", base), ("merged", opened.network)):
                started = time.process_time()
                network(slices)
                if number > 1:
                    took[name].append(time.process_time() - started)
    medians = {name: statistics.median(each) for name, each in took.items()}
    return {**{f"{name}_s": value for name, value in medians.items()}, "ratio": medians["merged"] / medians["base"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a site's personal.pt")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sitelora-serving-") as place:
        (Path(place) / "small").mkdir()
        found = {
            "command": "python benchmarks/serving.py personal.pt",
            "commit": commit(),
            "made": {
                key: open_model(args.model, out=Path(place)).made[key] for key in ("bundle", "arch", "image_size")
            },
            "threads": args.threads,
            "load_before": load,
            "hardware": hardware(),
            "versions": versions(),
            "merged": {**beside_the_base(args.model, Path(place), args.repeats), "aim": SLOWER},
            "warm": {"extent": SMALL, "seconds": warm(args.model, Path(place) / "small", 5), "aim_s": WARM_S},
            "large": {"extent": LARGE, **large(args.model, Path(place)), "aim_bytes": PEAK_BYTES},
        }
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    warm_s, large_ = statistics.median(found["warm"]["seconds"]), found["large"]
    print(
        f"merged {found['merged']['ratio']:.3f} of the base (aim {SLOWER}); {SMALL} {warm_s:.2f} s warm (aim {WARM_S})"
    )
    print(f"{LARGE} {large_['peak_bytes'] / 1e9:.2f} GB (aim {PEAK_BYTES / 1e9:.1f}) in {large_['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
