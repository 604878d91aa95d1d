"""Optic disc and cup in fundus pictures of four sources, as DoFE (Wang et al. 2020, TMI 39:4237) cut and gathered them.

Drishti-GS, RIM-ONE r3 and both halves of REFUGE: regions around the disc, 800 x 800. IAT's own four are REFUGE, ORIGA,
G1020 and Drishti-GS1, which nobody publishes together. A mask is 0 in the cup, 128 in the rim of the disc and 255
outside; here the rim is 1 and the cup is 2, so that the disc is both. Test pictures are the release's; a seventh of the
others, by a hash of the patient, becomes validation (our choice). RIM-ONE names left and right eyes: a patient with an
eye in the test is there with both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sitelora.data.public.converting import choose_sites, find_sources, read_rgb, relabelled
from sitelora.data.public.masked import MaskedPicture, whole_patients, write_pictures
from sitelora.data.reading import read_pixels
from sitelora.data.site_folder import Progress, SiteDataError, first_few
from sitelora.seeding import derive_seed

NAME = "fundus"
DATASET = "fundus"
DESCRIPTION = "optic disc and cup of four sources: DoFE's folders Domain1 to Domain4 of train/ROIs and test/ROIs"
LABELS = {0: "background", 1: "disc rim", 2: "cup"}
VALIDATION_SHARE = 1 / 7

_LAYOUT = "train/ROIs/{image,mask}/*.png and test/ROIs/{image,mask}/*.png"
_MASK = {255: 0, 128: 1, 0: 2}


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One source: DoFE's folder of it, what it is called, and whether its names end in L or R for an eye."""

    folder: str
    called: str
    eyes: bool = False


SOURCES: Mapping[str, _Source] = {
    "drishti-gs": _Source(folder="Domain1", called="Drishti-GS, Aravind Eye Hospital, India"),
    "rim-one-r3": _Source(folder="Domain2", called="RIM-ONE r3, hospitals of Madrid and Tenerife, Spain", eyes=True),
    "refuge-train": _Source(folder="Domain3", called="REFUGE, training half (Zeiss Visucam 500)"),
    "refuge-val": _Source(folder="Domain4", called="REFUGE, validation half (Canon CR-2)"),
}
SITES = tuple(SOURCES)


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/fundus/<source>`` for the chosen sources.

    Raises:
        SiteDataError: a folder or a picture's mask is missing, a picture is no 8-bit RGB, a mask holds another value
            than 0, 128 and 255 or differs between its channels, or other data is at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folders = find_sources(source, {site: SOURCES[site].folder for site in chosen}, dataset=NAME, layout=_LAYOUT)
    splits = {site: _splits(site, folder) for site, folder in folders.items()}
    return [
        write_pictures(
            Path(out) / DATASET / site,
            splits[site],
            overwrite=overwrite,
            progress=progress,
            hospital=SOURCES[site].called,
            labels=LABELS,
            modality="fundus photography, RGB",
            source={"made_by": NAME, "cite": "Wang et al. 2020, IEEE TMI 39:4237-4248, and the four sources' own"},
        )
        for site in chosen
    ]


def _splits(site: str, folder: Path) -> dict[str, list[MaskedPicture]]:
    splits: dict[str, list[MaskedPicture]] = {"training": [], "validation": [], "test": []}
    for there in ("train", "test"):
        images = sorted((folder / there / "ROIs" / "image").glob("*.png"))
        masks = folder / there / "ROIs" / "mask"
        missing = [image.name for image in images if not (masks / image.name).is_file()]
        if missing or not images:
            found = f"no mask of {first_few(missing)} in {masks}" if missing else f"no picture in {there}/ROIs/image"
            raise SiteDataError(f"{folder}: found {found}, expected {_LAYOUT}; complete the folder from the release")
        for image in images:
            patient = image.stem.rpartition("-")[0] if SOURCES[site].eyes else image.stem
            held = derive_seed(NAME, site, patient) / 2**63 < VALIDATION_SHARE
            split = "test" if there == "test" else "validation" if held else "training"
            read = partial(_read, image, masks / image.name)
            splits[split].append(MaskedPicture(file=image.name, patient=patient or image.stem, read=read))
    return whole_patients(splits)


def _read(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    picture, values = read_rgb(image), read_pixels(mask).values
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise SiteDataError(f"{mask}: found channels that differ, expected a grey mask; is it a mask?")
        values = values[..., 0]
    return picture, relabelled(values, _MASK, mask)
