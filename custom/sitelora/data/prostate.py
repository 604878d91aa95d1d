"""The public six-site prostate set (T2 MRI, as FLAP-SAM, arXiv:2407.21739, uses it) as site folders.

Test cases are the papers' own. Validation cases come from the training patients: FLAP-SAM's code validates on
up to four *test* patients, a leak that we do not copy. A case is a patient, as in the release.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.converting import choose_sites, find_sources, relabel
from sitelora.data.nifti import write_nifti
from sitelora.data.reading import Pixels, read_pixels
from sitelora.data.site_folder import Progress, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder
from sitelora.seeding import derive_seed

NAME = "prostate"
DATASET = "prostate"
DESCRIPTION = "public six-site prostate T2 MRI: folders RUNMC, BMC, I2CVB, UCL, BIDMC, HK of NIfTI files"
LABELS = {0: "background", 1: "prostate"}
VALIDATION_SHARE = 0.1

_log = logging.getLogger(__name__)
_LAYOUT = "CaseNN.nii.gz and CaseNN_segmentation.nii.gz"
_CASE = re.compile(r"case(\d+)(_segmentation)?\.nii(\.gz)?", re.IGNORECASE)
_ZONES = {0: 0, 1: 1, 2: 1}


@dataclass(frozen=True, kw_only=True)
class _Hospital:
    """Folder name in the release, full name, and the numbers of the papers' test cases."""

    folder: str
    name: str
    test: frozenset[int]


_AB = frozenset((3, 8, 12, 15, 18, 26))
_HOSPITALS: Mapping[str, _Hospital] = {
    "site-1": _Hospital(folder="RUNMC", name="Radboud University Nijmegen Medical Centre", test=_AB),
    "site-2": _Hospital(folder="BMC", name="Boston Medical Center", test=_AB),
    "site-3": _Hospital(folder="I2CVB", name="I2CVB, Dijon", test=frozenset((3, 8, 13, 15))),
    "site-4": _Hospital(folder="UCL", name="University College London", test=frozenset((1, 32, 34))),
    "site-5": _Hospital(folder="BIDMC", name="Beth Israel Deaconess Medical Center", test=frozenset((0, 4, 9))),
    "site-6": _Hospital(folder="HK", name="Haukeland University Hospital", test=frozenset((38, 41, 46))),
}
SITES = tuple(_HOSPITALS)


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/prostate/site-1`` to ``site-6``, hospitals A to F of the paper, from the release.

    Raises:
        SiteDataError: a folder, an image or a mask is missing, a mask holds other values than 0, 1 and 2, or
            other data is at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folders = find_sources(source, {site: _HOSPITALS[site].folder for site in chosen}, dataset=NAME, layout=_LAYOUT)
    pairs = {site: _pairs(folder) for site, folder in folders.items()}
    return [_write(Path(out) / DATASET / site, pairs[site], overwrite, progress) for site in chosen]


def _pairs(folder: Path) -> dict[int, tuple[Path, Path]]:
    """Return image and mask of every case number."""
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _CASE.fullmatch(path.name)
        if match:
            files = masks if match[2] else images
            if int(match[1]) in files:
                other = files[int(match[1])].name
                raise SiteDataError(f"{path}: found {other} beside it, expected one file of a kind a case; remove one")
            files[int(match[1])] = path
    alone = sorted(path.name for path in _only(images, masks) | _only(masks, images))
    if alone or not images:
        found = f"{', '.join(alone)} without counterpart" if alone else "no case"
        remedy = "complete the folder from the release"
        raise SiteDataError(f"{folder}: found {found}, expected {_LAYOUT} for every case; {remedy}")
    return {number: (images[number], masks[number]) for number in sorted(images)}


def _only(these: dict[int, Path], those: dict[int, Path]) -> set[Path]:
    return {path for number, path in these.items() if number not in those}


def _write(target: Path, pairs: dict[int, tuple[Path, Path]], overwrite: bool, progress: Progress | None) -> Path:
    site, hospital = target.name, _HOSPITALS[target.name]
    folder = SiteFolder(
        path=target,
        name=site,
        hospital=f"{hospital.name} ({hospital.folder})",
        labels=LABELS,
        splits=_split(site, pairs),
        modality="MRI T2",
        source={"made_by": NAME, "release_folder": hospital.folder},
    )

    def fill(path: Path) -> None:
        for done, (number, (image, mask)) in enumerate(pairs.items(), 1):
            shutil.copyfile(image, path / "images" / _file(number, image))
            label = relabel(mask, _ZONES)
            affine = _affine(mask, label, read_pixels(image))
            write_nifti(path / "labels" / f"case-{number:02d}.nii.gz", label.values, affine)
            if progress is not None:
                progress(site, done, len(pairs))

    write_site_folder(folder, fill, overwrite=overwrite)
    return target


def _affine(mask: Path, label: Pixels, image: Pixels) -> np.ndarray:
    """Return the image's affine when the mask's is the same but for rounding, else the mask's own."""
    if label.affine is None or image.affine is None:
        raise SiteDataError(f"{mask}: found a picture, expected a volume")
    if np.allclose(label.affine, image.affine, atol=1e-2):
        return image.affine
    _log.warning("%s lies elsewhere than its image; `sitelora check` says how far", mask)
    return label.affine


def _split(site: str, pairs: Mapping[int, tuple[Path, Path]]) -> dict[str, tuple[dict[str, Any], ...]]:
    hospital = _HOSPITALS[site]
    test = [number for number in pairs if number in hospital.test]
    rest = sorted((n for n in pairs if n not in hospital.test), key=lambda n: derive_seed(NAME, hospital.folder, n))
    held = max(1, round(VALIDATION_SHARE * len(rest))) if len(rest) > 1 else 0
    chosen = {"training": sorted(rest[held:]), "validation": sorted(rest[:held]), "test": test}
    return {
        split: tuple(
            {
                "image": f"images/{_file(number, pairs[number][0])}",
                "label": f"labels/case-{number:02d}.nii.gz",
                "patient": f"{hospital.folder}-{number:02d}",
            }
            for number in numbers
        )
        for split, numbers in chosen.items()
    }


def _file(number: int, image: Path) -> str:
    return f"case-{number:02d}.nii{'.gz' if image.name.lower().endswith('.gz') else ''}"
