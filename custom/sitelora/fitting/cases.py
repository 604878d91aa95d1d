"""The few cases that a probe runs on: some of the site's own, else the drawn phantom's, else random pixels."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sitelora.data.needs import DataNeeds
from sitelora.data.nifti import write_nifti
from sitelora.data.prepare import draw_site, phantom_of
from sitelora.data.site_folder import DATALIST, SPLITS, WITH_PHANTOM, SiteDataError, SiteFolder, find_site_folder
from sitelora.data.site_writer import write_selection

OWN, PHANTOM, RANDOM = "own", "phantom", "random"
PROBED: Mapping[str, int] = {"training": 4, "validation": 2, "test": 2}
_UNKNOWN: Mapping[str, int] = {"training": 100, "validation": 20, "test": 20}
"""What is reckoned with where there is no site folder to count in (our choice, and the command says it)."""
_SIDE, _SLICES = 256, 24
"""Of a random volume or picture, before the bundle resizes it (our choice: a usual MRI)."""


@dataclass(frozen=True, kw_only=True)
class ProbeCases:
    """What a probe runs on.

    Attributes:
        kind: OWN, PHANTOM or RANDOM. folder: a site folder of few cases. counts: cases of the whole site, by split.
    """

    kind: str
    folder: Path
    counts: Mapping[str, int]

    @property
    def artificial(self) -> bool:
        """Whether it was drawn."""
        return self.kind != OWN


def probe_cases(dataset: str, site: str, needs: DataNeeds, *, root: Path | None, out: Path, named: bool) -> ProbeCases:
    """Return a few cases of a site, or of none where it has no folder.

    Args:
        needs: what the bundle expects. root: of the site folders; None for the configured one. out: where to write.
        named: whether somebody named the root, who then means it.

    Raises:
        SiteDataError: a root is named and holds no such site; or the site's own dataset.json is not usable.
    """
    target = out / dataset / site
    try:
        own = SiteFolder.read(find_site_folder(dataset, site, root))
    except SiteDataError:
        if named:
            raise
    else:
        if not own.cases("training"):
            raise SiteDataError(f"site {site}: {own.path / DATALIST} lists no training case; there is nothing to probe")
        return ProbeCases(kind=OWN, folder=_few_of(own, target), counts=own.case_counts())
    if dataset in WITH_PHANTOM:
        with contextlib.suppress(SiteDataError):  # the phantom has no such site
            drawn, whole = draw_site(dataset, site, out, cases=PROBED), phantom_of(dataset).SIZE()
            return ProbeCases(kind=PHANTOM, folder=drawn, counts={split: getattr(whole, split) for split in SPLITS})
    return ProbeCases(kind=RANDOM, folder=_random(target, needs), counts=_UNKNOWN)


def _few_of(own: SiteFolder, target: Path) -> Path:
    """Write a site folder that links to a few of a site's files: of every split from the largest to the smallest."""
    splits = {}
    for split, most in PROBED.items():
        entries = sorted(own.splits.get(split, ()), key=lambda entry: -_size(own.path / str(entry["image"])))
        places = np.linspace(0, len(entries) - 1, min(most, len(entries))).astype(int)
        splits[split] = tuple(entries[place] for place in places)
    write_selection(own, replace(own, path=target, splits=splits), lambda file, link: link.symlink_to(file.absolute()))
    return target


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _random(target: Path, needs: DataNeeds) -> Path:
    """Write a site folder of random cases in the shape that a bundle expects."""
    draws, number = np.random.default_rng(0), 0
    ending = "png" if needs.pictures else "nii.gz"
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, count in PROBED.items():
        splits[split] = []
        for _ in range(count):
            entry: dict[str, Any] = {"image": f"images/{number}.{ending}", "patient": f"random-{number}"}
            shape = (_SIDE, _SIDE) if needs.pictures else (_SIDE, _SIDE, _SLICES)
            colours = () if needs.channels[0] == 1 else (needs.channels[0],)
            _write(target / entry["image"], draws.integers(0, 256, (*shape, *colours), dtype=np.uint8), needs)
            if needs.truth == "class":
                entry["class"] = number % needs.classes
            else:
                mask = np.zeros(shape, np.uint8)
                for value in range(1, needs.labels):
                    mask[value * _SIDE // needs.labels :, _SIDE // 4 : -_SIDE // 4] = value
                entry["label"] = f"labels/{number}.{ending}"
                _write(target / entry["label"], mask, needs)
            splits[split].append(entry)
            number += 1
    content = {"name": target.name, "labels": {str(n): f"label {n}" for n in range(needs.labels)}, **splits}
    (target / DATALIST).write_text(json.dumps(content), encoding="utf-8")
    return target


def _write(path: Path, values: np.ndarray, needs: DataNeeds) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if needs.pictures:
        Image.fromarray(values).save(path)
        return
    pixel_mm, slice_mm = needs.spacing_mm or (1.0, 3.0)
    write_nifti(path, values, np.diag([pixel_mm, pixel_mm, slice_mm, 1.0]))


def described(cases: ProbeCases, site: str) -> str:
    """Return in words what a probe ran on."""
    counts = ", ".join(f"{cases.counts[split]} {split}" for split in SPLITS)
    return {
        OWN: f"{site}'s own data ({counts} cases)",
        PHANTOM: f"NO REAL DATA: the drawn phantom ({counts} cases)",
        RANDOM: f"NO REAL DATA: random pixels; {counts} cases are assumed",
    }[cases.kind]
