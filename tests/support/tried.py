"""What a bundle is tried on: the smallest data that it takes, and values under which it trains in a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from class_pictures import DATASET as SHAPES
from class_pictures import write_class_pictures
from sitelora.bundle import bundle_names
from sitelora.data.phantom.heart_make import TINY_CINE, make_cine
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.settings import read_settings
from small_network import SMALL


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Data and values for bundles of one kind.

    Attributes:
        dataset: name of the sites' folder. values: by id. write: writes ``SITES`` below a root.
    """

    dataset: str
    values: Mapping[str, Any]
    write: Callable[[Path], object]


SITES = ("site-1", "site-2")


def _write_cine(root: Path) -> None:
    """Draw two vendors, under the names that tests call every site by."""
    for vendor, site in zip(("vendor-a", "vendor-b"), SITES, strict=True):
        folder = (make_cine(root, size=TINY_CINE, sites=[vendor]) / vendor).rename(root / "cine" / site)
        told = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        (folder / "dataset.json").write_text(json.dumps({**told, "name": site}), encoding="utf-8")


VOLUMES = Tried(
    dataset="prostate",
    values={**SMALL, "crops_per_volume": 1, "slices": 2, "epochs": 1},
    write=lambda root: make_phantom(root, size=TINY, sites=SITES),
)
PICTURES = Tried(
    dataset=SHAPES,
    values={**SMALL, "epochs": 1, "batch_size": 2},
    write=lambda root: write_class_pictures(root, SITES),
)
CINE = Tried(
    dataset="cine",
    values={**SMALL, "slices": 2, "epochs": 1, "batch_size": 2},
    write=_write_cine,
)


def tried(bundle: str) -> Tried:
    """Return what a bundle is tried on, by its task and by what its images are."""
    run = read_settings(bundle)
    if run.task.name == "segmentation":
        return VOLUMES
    return PICTURES if run.parser()["pictures"] else CINE


def bundles_of(task: str) -> list[str]:
    """Return the bundles of one task."""
    return [name for name in bundle_names() if read_settings(name).task.name == task]
