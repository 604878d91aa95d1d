"""Chest X-rays of two real hospitals with lung masks (Jaeger et al. 2014, NLM) as site folders.

Splits are by patient and by a hash of the patient, so that a case which is added later moves no other.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sitelora.data.public.converting import (
    choose_sites,
    find_sources,
    read_table,
    relabel,
    require_files,
    split_by_hash,
)
from sitelora.data.site_folder import SPLITS, Progress, SiteFolder
from sitelora.data.site_writer import write_site_folder

NAME = "lungs"
DATASET = "lungs"
DESCRIPTION = "chest X-rays of two hospitals: folders montgomery and shenzhen of images/, masks/ and labels.csv"
LABELS = {0: "background", 1: "lungs"}

_LAYOUT = "images/*.png, masks/*.png and labels.csv (file, tuberculosis, has_mask)"
_COLUMNS = {"file", "tuberculosis", "has_mask"}
_MASK = {0: 0, 255: 1}
HOSPITALS: Mapping[str, str] = {
    "montgomery": "Montgomery County Department of Health and Human Services, USA",
    "shenzhen": "Shenzhen No. 3 People's Hospital, China",
}
SITES = tuple(HOSPITALS)


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """One X-ray with its mask."""

    image: Path
    mask: Path
    tuberculosis: int

    @property
    def patient(self) -> str:
        """The patient's name in the release."""
        return patient_of(self.image)


def patient_of(image: Path) -> str:
    """Return ``CHNCXR_0001`` of ``CHNCXR_0001_0.png``; the last number repeats the finding."""
    return image.stem.rpartition("_")[0] or image.stem


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/lungs/montgomery`` and ``<out>/lungs/shenzhen`` with every image that has a mask.

    Raises:
        SiteDataError: a folder, ``labels.csv`` or a file that it names is missing, a mask holds other values
            than 0 and 255, or other data is at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folders = find_sources(source, {site: site for site in chosen}, dataset=NAME, layout=_LAYOUT)
    pictures = {site: _pictures(folder) for site, folder in folders.items()}
    return [_write(Path(out) / DATASET / site, pictures[site], overwrite, progress) for site in chosen]


def split_of(site: str, patient: str) -> str:
    """Return the split of a patient: about 60 % training, 10 % validation, 30 % test."""
    return split_by_hash(NAME, site, patient)


def _pictures(folder: Path) -> list[_Picture]:
    rows = read_table(folder / "labels.csv", _COLUMNS, layout=_LAYOUT)
    pictures = [
        _Picture(
            image=folder / "images" / row["file"],
            mask=folder / "masks" / row["file"],
            tuberculosis=int(row["tuberculosis"]),
        )
        for row in sorted(rows, key=lambda row: row["file"])
        if row["has_mask"] == "1"
    ]
    files = [path for picture in pictures for path in (picture.image, picture.mask)]
    require_files(folder, files, table="labels.csv", none="no image with has_mask=1", layout=_LAYOUT)
    return pictures


def _write(target: Path, pictures: list[_Picture], overwrite: bool, progress: Progress | None) -> Path:
    site = target.name
    splits: dict[str, tuple[Mapping[str, Any], ...]] = {
        split: tuple(
            {
                "image": f"images/{picture.image.name}",
                "label": f"labels/{picture.image.name}",
                "patient": picture.patient,
                "tuberculosis": picture.tuberculosis,
            }
            for picture in pictures
            if split_of(site, picture.patient) == split
        )
        for split in SPLITS
    }
    folder = SiteFolder(
        path=target,
        name=site,
        hospital=HOSPITALS[site],
        labels=LABELS,
        splits=splits,
        modality="chest X-ray",
        source={"made_by": NAME, "cite": "Jaeger et al. 2014, NLM"},
    )

    def fill(path: Path) -> None:
        for done, picture in enumerate(pictures, 1):
            shutil.copyfile(picture.image, path / "images" / picture.image.name)
            Image.fromarray(relabel(picture.mask, _MASK).values).save(path / "labels" / picture.image.name)
            if progress is not None:
                progress(site, done, len(pictures))

    write_site_folder(folder, fill, overwrite=overwrite)
    return target
