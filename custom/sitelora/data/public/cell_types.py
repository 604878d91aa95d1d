"""Types of white blood cells, two laboratories (Zheng et al. 2018, Micron 107:55-71), as site folders: one a picture.

The source names no patient: see :mod:`sitelora.data.public.cells`. One laboratory has no basophil.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sitelora.data.public.cells import CELLS, LABORATORIES, read_pictures
from sitelora.data.public.classed import ClassedCase, split_patients, write_cases
from sitelora.data.public.converting import choose_sites, find_sources, repeated
from sitelora.data.site_folder import Progress

NAME = "cell_types"
DATASET = "cell_types"
DESCRIPTION = "types of white blood cells: folders jiangxi_tecom, cellavision of images/ and labels.csv"
LABELS = {number - 1: name for number, name in CELLS.items()}
SITES = tuple(LABORATORIES)

_LAYOUT = "images/*.png (RGB) and labels.csv (file, cell_class)"


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/cell_types/jiangxi_tecom`` and ``<out>/cell_types/cellavision``, every picture once.

    The release numbers its types from 1, a site folder from 0.

    Raises:
        SiteDataError: a folder, ``labels.csv`` or a file that it names is missing, a picture is not 8-bit RGB, a type
            is none of the five, or other data is at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folders = find_sources(source, {site: site for site in chosen}, dataset=NAME, layout=_LAYOUT)
    return [_write(Path(out) / DATASET / site, folders[site], overwrite, progress) for site in chosen]


def _write(target: Path, folder: Path, overwrite: bool, progress: Progress | None) -> Path:
    pictures = read_pictures(folder, layout=_LAYOUT)
    repeats = repeated(list(pictures), dataset=NAME)
    cases = [
        ClassedCase(
            file=image.name,
            patient=f"picture-{image.stem}",
            truth=cell - 1,
            write=partial(shutil.copyfile, image),
        )
        for image, cell in pictures.items()
        if image.name not in repeats
    ]
    return write_cases(
        target,
        split_patients(cases, (NAME, target.name)),
        overwrite=overwrite,
        progress=progress,
        hospital=LABORATORIES[target.name],
        labels=LABELS,
        modality="blood smear microscopy, RGB",
        source={
            "made_by": NAME,
            "cite": "Zheng et al. 2018, Micron 107:55-71",
            "patients": "not named by the source; every picture counts as its own",
            "same_picture_left_out": repeats,
        },
    )
