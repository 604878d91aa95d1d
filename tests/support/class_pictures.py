"""Sites with a class a case, small enough for every method: discs or squares, of another brightness at every site."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

DATASET = "shapes"
CLASSES = {"0": "disc", "1": "square"}
SPLITS = {"training": 4, "validation": 2, "test": 2}


def write_class_pictures(root: Path, sites: Collection[str], *, side: int = 24) -> Path:
    """Write ``<root>/shapes/<site>``, grey PNG pictures of ``side`` x ``side``; return ``root``."""
    for number, site in enumerate(sites):
        folder, rng = root / DATASET / site, np.random.default_rng(number)
        (folder / "images").mkdir(parents=True)
        listed: dict[str, list[dict[str, object]]] = {}
        for split, count in SPLITS.items():
            listed[split] = []
            for index in range(count):
                name = f"images/{split}-{index}.png"
                Image.fromarray(_picture(index % 2, side, rng, bright=120 + 60 * number)).save(folder / name)
                listed[split].append({"image": name, "class": index % 2, "patient": f"{site}-{split}-{index}"})
        told = {"name": site, "hospital": f"drawn, {site}", "modality": "drawn", "labels": CLASSES, **listed}
        (folder / "dataset.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return root


def _picture(kind: int, side: int, rng: np.random.Generator, *, bright: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2 - rng.uniform(-2, 2, size=(2, 1, 1))
    inside = np.hypot(y, x) < side / 3.5 if kind == 0 else np.maximum(abs(y), abs(x)) < side / 4
    return np.clip(inside * bright + rng.normal(40, 12, (side, side)), 0, 255).astype(np.uint8)
