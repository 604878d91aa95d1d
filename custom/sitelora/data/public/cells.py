"""White blood cells of two laboratories (Zheng et al. 2018, Micron 107:55-71) as site folders: RGB, two classes.

The source names no patient. Every picture therefore counts as its own patient and the split is by a hash of the file
name: cells of one person may lie on both sides of it, and intervals over "patients" are intervals over pictures.
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
    repeated,
    require_files,
    split_by_hash,
)
from sitelora.data.reading import read_pixels
from sitelora.data.site_folder import SPLITS, Progress, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder

NAME = "cells"
DATASET = "cells"
DESCRIPTION = "white blood cells of two laboratories: folders jiangxi_tecom, cellavision of images/, masks/, labels.csv"
LABELS = {0: "background", 1: "cytoplasm", 2: "nucleus"}

_LAYOUT = "images/*.png (RGB), masks/*.png (0, 1, 2) and labels.csv (file, cell_class)"
_COLUMNS = {"file", "cell_class"}
_MASK = {value: value for value in LABELS}
CELLS = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}
LABORATORIES: Mapping[str, str] = {
    "jiangxi_tecom": "Jiangxi Tecom Science Corporation, China",
    "cellavision": "CellaVision",
}
SITES = tuple(LABORATORIES)


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """One picture of one cell with its mask."""

    image: Path
    mask: Path
    cell_class: int

    @property
    def patient(self) -> str:
        """A name that says what is known: which picture, not whose."""
        return f"picture-{self.image.stem}"


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/cells/jiangxi_tecom`` and ``<out>/cells/cellavision``, every picture once.

    A picture that a site holds under two names is kept under the first one (our choice: in the release their masks
    differ, and the second could land in another split); ``source`` of ``dataset.json`` says what was left out.

    Raises:
        SiteDataError: a folder, ``labels.csv`` or a file that it names is missing, a picture is not RGB or not of its
            mask's size, a mask or cell class holds an unknown value, or other data is at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folders = find_sources(source, {site: site for site in chosen}, dataset=NAME, layout=_LAYOUT)
    pictures = {site: _once(folder) for site, folder in folders.items()}
    return [_write(Path(out) / DATASET / site, *pictures[site], overwrite, progress) for site in chosen]


def split_of(site: str, file_name: str) -> str:
    """Return the split of a picture: about 60 % training, 10 % validation, 30 % test."""
    return split_by_hash(NAME, site, file_name)


def read_pictures(folder: Path, *, layout: str) -> dict[Path, int]:
    """Return a laboratory's pictures, sorted, with the number of their cell's type.

    Raises:
        SiteDataError: ``labels.csv`` or a picture is missing, or a type is unknown.
    """
    table = folder / "labels.csv"
    pictures = {}
    for row in sorted(read_table(table, _COLUMNS, layout=layout), key=lambda row: row["file"]):
        if row["cell_class"] not in map(str, CELLS):
            raise SiteDataError(
                f"{table}: found cell_class {row['cell_class']!r} for {row['file']}, expected one of {sorted(CELLS)}; "
                "correct the table"
            )
        pictures[folder / "images" / row["file"]] = int(row["cell_class"])
    require_files(folder, list(pictures), table="labels.csv", none="no picture listed", layout=layout)
    return pictures


def _once(folder: Path) -> tuple[list[_Picture], dict[str, str]]:
    """Return the pictures without repeats, and the name of every repeat with the name it repeats."""
    pictures = [
        _Picture(image=image, mask=folder / "masks" / image.name, cell_class=cell)
        for image, cell in read_pictures(folder, layout=_LAYOUT).items()
    ]
    masks = [picture.mask for picture in pictures]
    require_files(folder, masks, table="labels.csv", none="no picture listed", layout=_LAYOUT)
    repeats = repeated([picture.image for picture in pictures], dataset=NAME)
    for picture in pictures:
        extent, expected = read_pixels(picture.mask).extent, read_pixels(picture.image).extent
        if extent != expected:
            raise SiteDataError(f"{picture.mask}: found shape {extent}, expected {expected} as its image has")
    return [picture for picture in pictures if picture.image.name not in repeats], repeats


def _write(
    target: Path, pictures: list[_Picture], repeats: Mapping[str, str], overwrite: bool, progress: Progress | None
) -> Path:
    site = target.name
    splits: dict[str, tuple[Mapping[str, Any], ...]] = {
        split: tuple(
            {
                "image": f"images/{picture.image.name}",
                "label": f"labels/{picture.image.name}",
                "patient": picture.patient,
                "cell_class": picture.cell_class,
            }
            for picture in pictures
            if split_of(site, picture.image.name) == split
        )
        for split in SPLITS
    }
    folder = SiteFolder(
        path=target,
        name=site,
        hospital=LABORATORIES[site],
        labels=LABELS,
        splits=splits,
        modality="blood smear microscopy, RGB",
        source={
            "made_by": NAME,
            "cite": "Zheng et al. 2018, Micron 107:55-71",
            "patients": "not named by the source; every picture counts as its own",
            "cell_class": {str(number): name for number, name in CELLS.items()},
            "same_picture_left_out": dict(repeats),
        },
    )

    def fill(path: Path) -> None:
        for done, picture in enumerate(pictures, 1):
            shutil.copyfile(picture.image, path / "images" / picture.image.name)
            Image.fromarray(relabel(picture.mask, _MASK).values).save(path / "labels" / picture.image.name)
            if progress is not None:
                progress(site, done, len(pictures))

    write_site_folder(folder, fill, overwrite=overwrite)
    return target
