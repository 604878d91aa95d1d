"""Writes a pre-training run's weights as the embedded ones, in fp16, with the manifest that says how they were made.

python benchmarks/pretrain/export.py RUN
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from drawings import SIDE_PX, Textures, draw
from pretrain_vit import network_of
from safetensors.torch import save_file

from sitelora.disk import file_sha256
from sitelora.networks.checkpoint import OUR_FORMAT
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.tensor_file import embedded_file
from sitelora.networks.vit.classifier import VitClassifier
from sitelora.networks.vit.loading import OUR_FORMAT as OUR_VIT_FORMAT

CLASSES = 2
POINTS = 40
"""Of the curve in a manifest."""
SETTLED_ON = 256
"""Drawings."""


def export(run: Path, target: Path | None) -> None:
    """Write the run's weights in fp16, and the manifest that says how they were made."""
    saved = torch.load(run / "last.pt", weights_only=True)
    arch = saved["settings"].get("arch", "sam_tiny")
    state, metadata, told = _sam(saved) if arch == "sam_tiny" else _vit(run, saved)
    target = target or embedded_file(arch)
    save_file(state, target, metadata=metadata)
    target.chmod(0o644)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    manifest = {
        "arch": arch,
        "sha256": file_sha256(target),
        "dtype": "float16",
        **told,
        "settings": saved["settings"],
        "steps": saved["step"],
        "pictures": saved["step"] * saved["settings"]["batch"],
        "minutes": round(saved["spent_s"] / 60, 1),
        "threads": saved["settings"]["threads"],
        "hardware": _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "curve": _curve(lines),
    }
    target.with_suffix(".json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _sam(saved: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str], dict[str, Any]]:
    with torch.device("meta"):
        wanted = SamSegmenter(arch="sam_tiny", image_size=SIDE_PX, classes=CLASSES).state_dict()
    state = {name: saved["network"][name].half().contiguous() for name in wanted}
    told = {
        "data": "pictures drawn by benchmarks/pretrain/drawings.py; no photograph or scan",
        "script": "benchmarks/pretrain/pretrain.py",
        "first_pictures_sha256": first_pictures_sha256(saved["settings"]["seed"], saved["settings"]["without"]),
        "reproducible": "yes; bits on a processor of the same kind with as many threads",
    }
    return state, {"format": OUR_FORMAT, "arch": "sam_tiny", "image_size": str(SIDE_PX)}, told


def _vit(run: Path, saved: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str], dict[str, Any]]:
    """A head is everybody's own, and the places of a volume are computed."""
    (drawn,) = run.glob("*.npy")
    network = network_of(saved["settings"]["arch"], saved["settings"]["seed"]).eval()
    network.load_state_dict(saved["network"])
    settle(network, torch.from_numpy(np.array(np.load(drawn, mmap_mode="r")[:SETTLED_ON])).float() / 255)
    left = ("head.", "encoder.stem.pos_embed")
    state = {name: value.half() for name, value in network.state_dict().items() if not name.startswith(left)}
    what = {"cine_tiny": "hearts drawn by sitelora.data.phantom", "vit_tiny": "pictures drawn by drawings.py"}
    told = {
        "data": f"{what[saved['settings']['arch']]}, see benchmarks/pretrain/banks.py; no photograph, scan or class",
        "script": "benchmarks/pretrain/pretrain_vit.py",
        "drawings_sha256": file_sha256(drawn),
        "minutes_are": "of the processor",
        "settled": f"what the head reads has mean 0 and deviation 1 over the first {SETTLED_ON} drawings",
        "reproducible": "yes; bits on a processor of the same kind",
    }
    if (run / "probe.json").is_file():
        told["probe"] = json.loads((run / "probe.json").read_text())
    return state, {"format": OUR_VIT_FORMAT, "arch": saved["settings"]["arch"]}, told


def settle(network: VitClassifier, images: torch.Tensor) -> None:
    """Give a network mean and deviation of what its head reads of images; see `Standardise`."""
    with torch.no_grad():
        read = torch.cat([network.features(part) for part in images.split(16)])
        network.standard.deviation.copy_(read.std(0).clamp(min=1e-4))
        network.standard.mean.copy_(read.mean(0))


def _curve(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return means of what a log says, over equal stretches of it."""
    size = max(1, len(lines) // POINTS)
    keys = [key for key in ("loss", "principal", "nested", "kinds", "prompted", "dice", "prompted_dice")
            if any(key in line for line in lines)]  # fmt: skip
    return [
        {
            "step": part[-1]["step"],
            **{key: round(sum(x[key] for x in part if key in x) / sum(key in x for x in part), 4) for key in keys},
        }
        for part in (lines[i : i + size] for i in range(0, len(lines), size))
    ]


def _processor() -> str:
    try:
        out = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in out.splitlines() if line.startswith("Model name")),
        "unknown",
    )


def first_pictures_sha256(seed: int, without: Collection[str] = (), pictures: int = 64) -> str:
    """Return a hash of the first drawings in 8 bits, by which other versions of the scripts can be told."""
    textures = Textures(seed)
    digest = hashlib.sha256()
    for index in range(pictures):
        drawing = draw(seed, index, textures, without)
        digest.update((drawing.image.clip(0, 1) * 255).round().astype(np.uint8).tobytes())
        digest.update(np.packbits(drawing.principal).tobytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", type=Path, help="another file than the embedded one")
    args = parser.parse_args()
    export(args.run, args.target)


if __name__ == "__main__":
    main()
