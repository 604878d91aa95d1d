"""The public six-site prostate set (T2 MRI, as FLAP-SAM, arXiv:2407.21739, uses it) as site folders.

Test cases are the papers' own. Validation cases come from the training patients: FLAP-SAM's code validates on
up to four *test* patients, a leak that we do not copy. A case is a patient, as in the release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.data.public.converting import choose_sites, find_sources
from sitelora.data.public.volumes import Volume, paired, split_volumes, write_volumes
from sitelora.data.site_folder import Progress, SiteDataError

NAME = "prostate"
DATASET = "prostate"
DESCRIPTION = "public six-site prostate T2 MRI: folders RUNMC, BMC, I2CVB, UCL, BIDMC, HK of NIfTI files"
LABELS = {0: "background", 1: "prostate"}

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
    volumes = {site: _volumes(site, folder) for site, folder in folders.items()}
    return [_write(Path(out) / DATASET / site, volumes[site], overwrite, progress) for site in chosen]


def _volumes(site: str, folder: Path) -> list[Volume]:
    """Return every case of a hospital."""
    hospital = _HOSPITALS[site]
    found: dict[bool, dict[str, Path]] = {False: {}, True: {}}
    for path in sorted(folder.iterdir()):
        match = _CASE.fullmatch(path.name)
        if match:
            files, number = found[match[2] is not None], f"{int(match[1]):02d}"
            if number in files:
                other = files[number].name
                raise SiteDataError(f"{path}: found {other} beside it, expected one file of a kind a case; remove one")
            files[number] = path
    images, masks = found[False], found[True]
    return [
        Volume(
            name=f"case-{number}",
            patient=f"{hospital.folder}-{number}",
            image=images[number],
            mask=masks[number],
            test=int(number) in hospital.test,
        )
        for number in paired(images, masks, folder=folder, layout=_LAYOUT)
    ]


def _write(target: Path, volumes: list[Volume], overwrite: bool, progress: Progress | None) -> Path:
    hospital = _HOSPITALS[target.name]
    return write_volumes(
        target,
        split_volumes(volumes, seed=(NAME, hospital.folder)),
        mapping=_ZONES,
        overwrite=overwrite,
        progress=progress,
        hospital=f"{hospital.name} ({hospital.folder})",
        labels=LABELS,
        modality="MRI T2",
        source={"made_by": NAME, "release_folder": hospital.folder},
    )
