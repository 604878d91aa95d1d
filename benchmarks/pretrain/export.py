"""Writes a pre-training run's weights as the embedded ones, in fp16, with the manifest that says how they were made.

python benchmarks/pretrain/export.py RUN
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch
from drawings import SIDE_PX, Textures, draw
from safetensors.torch import save_file

from sitelora.networks.checkpoint import OUR_FORMAT
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.tensor_file import embedded_file, file_sha256

CLASSES = 2


def export(run: Path, target: Path) -> None:
    """Write the run's weights in fp16, for two classes, and the manifest that says how they were made."""
    saved = torch.load(run / "last.pt", weights_only=True)
    with torch.device("meta"):
        wanted = SamSegmenter(arch="sam_tiny", image_size=SIDE_PX, classes=CLASSES).state_dict()
    state = {name: saved["network"][name].half().contiguous() for name in wanted}
    save_file(state, target, metadata={"format": OUR_FORMAT, "arch": "sam_tiny", "image_size": str(SIDE_PX)})
    target.chmod(0o644)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    size = max(1, len(lines) // 40)
    curve = [
        {
            "step": part[-1]["step"],
            **{
                key: round(sum(x[key] for x in part if key in x) / sum(key in x for x in part), 4)
                for key in ("principal", "nested", "kinds", "prompted", "dice", "prompted_dice")
            },
        }
        for part in (lines[i : i + size] for i in range(0, len(lines), size))
    ]
    manifest = {
        "arch": "sam_tiny",
        "sha256": file_sha256(target),
        "dtype": "float16",
        "data": "pictures drawn by benchmarks/pretrain/drawings.py; no photograph or scan",
        "script": "benchmarks/pretrain/pretrain.py",
        "first_pictures_sha256": first_pictures_sha256(saved["settings"]["seed"]),
        "settings": saved["settings"],
        "steps": saved["step"],
        "pictures": saved["step"] * saved["settings"]["batch"],
        "minutes": round(saved["spent_s"] / 60, 1),
        "threads": saved["settings"]["threads"],
        "reproducible": "settings and pictures yes, bits no: the learning rate follows the clock",
        "hardware": _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "curve": curve,
    }
    target.with_suffix(".json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        out = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in out.splitlines() if line.startswith("Model name")),
        "unknown",
    )


def first_pictures_sha256(seed: int, pictures: int = 64) -> str:
    """Return a hash of the first drawings in 8 bits, by which other versions of the scripts can be told."""
    textures = Textures(seed)
    digest = hashlib.sha256()
    for index in range(pictures):
        drawing = draw(seed, index, textures)
        digest.update((drawing.image.clip(0, 1) * 255).round().astype(np.uint8).tobytes())
        digest.update(np.packbits(drawing.principal).tobytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    export(args.run, args.target)


if __name__ == "__main__":
    main()
