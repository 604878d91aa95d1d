"""Nuclei in H&E pictures: five of the seven clients of FedFMS (Liu et al., MICCAI 2024), which IAT's counts fit.

Four organs of PanNuke (Gamper et al. 2020), each from the fold that FedFMS takes, and TNBC (Naylor et al. 2018). Any
class of nucleus is 1. PanNuke names no patient: every picture counts as its own, and the split is by a hash of its
number in the fold. TNBC's slides are patients: in the order of their numbers the last three are for testing and the one
before them for validation (our choice). FedFMS' other two, MoNuSAC of 2018 and 2020, publish outlines instead of masks
and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sitelora.data.public.converting import choose_sites, source_folder, split_by_hash
from sitelora.data.public.masked import MaskedPicture, write_pictures
from sitelora.data.reading import read_pixels
from sitelora.data.site_folder import SPLITS, Progress, SiteDataError

NAME = "histology"
DATASET = "histology"
DESCRIPTION = "nuclei of four organs of PanNuke and of TNBC: folders 'Fold 2', 'Fold 3' and TNBC_NucleiSegmentation"
LABELS = {0: "background", 1: "nuclei"}
ORGANS: Mapping[str, tuple[int, str]] = {
    "adrenal-gland": (2, "Adrenal_gland"),
    "esophagus": (2, "Esophagus"),
    "bile-duct": (3, "Bile-duct"),
    "uterus": (3, "Uterus"),
}
"""Site to PanNuke's fold, as FedFMS takes it, and PanNuke's name of the organ."""
TNBC = "tnbc"
SITES = (*ORGANS, TNBC)

_ARRAYS = (("images", "images"), ("images", "types"), ("masks", "masks"))
"""Part of a fold and name of the array in it."""
_LAYOUT = (
    "'Fold 2' and 'Fold 3' of PanNuke (images/fold2/images.npy, images/fold2/types.npy, masks/fold2/masks.npy) and "
    "TNBC_NucleiSegmentation (Slide_01/*.png, GT_01/*.png)"
)


def convert(
    source: Path | None,
    out: Path,
    *,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/histology/<site>`` for the chosen organs and ``tnbc``.

    Raises:
        SiteDataError: a fold, an array or a slide is missing or of another shape, no picture of an organ, or other
            data at a site folder's place.
    """
    chosen = choose_sites(sites, SITES, NAME)
    folder = source_folder(source, dataset=NAME, expected=_LAYOUT)
    pictures = {site: _slides(folder) if site == TNBC else _organ(folder, site) for site in chosen}
    return [
        write_pictures(
            Path(out) / DATASET / site,
            _splits(site, pictures[site]),
            overwrite=overwrite,
            progress=progress,
            hospital="TNBC, Institut Curie, France"
            if site == TNBC
            else f"PanNuke, {ORGANS[site][1].replace('_', ' ')}",
            labels=LABELS,
            modality="H&E microscopy, RGB",
            source={
                "made_by": NAME,
                "cite": "Naylor et al. 2018"
                if site == TNBC
                else "Gamper et al. 2020, arXiv 2003.10778; CC BY-NC-SA 4.0",
                "patients": "slides" if site == TNBC else "not named by the source; every picture counts as its own",
            },
        )
        for site in chosen
    ]


def _splits(site: str, pictures: Sequence[MaskedPicture]) -> dict[str, list[MaskedPicture]]:
    slides = sorted({one.patient for one in pictures})
    held = {slide: "test" for slide in slides[-3:]} | {slide: "validation" for slide in slides[-4:-3]}

    def split_of(one: MaskedPicture) -> str:
        return held.get(one.patient, "training") if site == TNBC else split_by_hash(NAME, site, one.patient)

    return {split: [one for one in pictures if split_of(one) == split] for split in SPLITS}


def _organ(folder: Path, site: str) -> list[MaskedPicture]:
    number, organ = ORGANS[site]
    fold = next((path for path in (folder / f"Fold {number}", folder / f"fold{number}") if path.is_dir()), None)
    if fold is None:
        raise SiteDataError(f"{folder}: no folder 'Fold {number}', expected {_LAYOUT}; unpack PanNuke's fold there")
    paths = [fold / part / f"fold{number}" / f"{name}.npy" for part, name in _ARRAYS]
    missing = [str(path.relative_to(folder)) for path in paths if not path.is_file()]
    if missing:
        raise SiteDataError(f"{folder}: no {missing[0]}, expected {_LAYOUT}; complete the fold from the release")
    images, types, masks = (_array(path) for path in paths)
    if images.shape[1:] != (*masks.shape[1:3], 3) or not len(images) == len(types) == len(masks) or masks.ndim != 4:
        raise SiteDataError(
            f"{fold}: found arrays of shapes {images.shape}, {types.shape} and {masks.shape}, expected [N, H, W, 3], "
            "[N] and [N, H, W, 6]; they are not of one fold"
        )
    rows = [row for row, of in enumerate(types.tolist()) if of == organ]
    if not rows:
        raise SiteDataError(f"{paths[1]}: found no picture of {organ}, among {', '.join(sorted(set(types.tolist())))}")
    return [
        MaskedPicture(
            file=f"fold{number}_{row:05d}.png", patient=f"picture-{row:05d}", read=partial(_tile, images, masks, row)
        )
        for row in rows
    ]


def _array(path: Path) -> np.ndarray:
    """Open an array without its gigabytes.

    Raises:
        SiteDataError: it is no array of numbers or text.
    """
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SiteDataError(f"{path}: not readable as an array ({error}); fetch it again") from error
    return found


def _tile(images: np.ndarray, masks: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    image = np.clip(np.rint(np.asarray(images[row])), 0, 255).astype(np.uint8)
    return image, _any(np.asarray(masks[row, ..., :-1]))  # the last channel is the background


def _slides(folder: Path) -> list[MaskedPicture]:
    release = folder / "TNBC_NucleiSegmentation"
    slides = sorted(path for path in release.glob("Slide_*") if path.is_dir())
    pictures = []
    for slide in slides:
        number = slide.name.removeprefix("Slide_")
        for image in sorted(slide.glob("*.png")):
            mask = release / f"GT_{number}" / image.name
            if not mask.is_file():
                raise SiteDataError(f"{release}: no GT_{number}/{image.name}, expected {_LAYOUT}; complete the release")
            pictures.append(
                MaskedPicture(
                    file=f"{number}_{image.stem}.png", patient=f"slide-{number}", read=partial(_slide, image, mask)
                )
            )
    if not pictures:
        raise SiteDataError(f"{folder}: no TNBC_NucleiSegmentation/Slide_*/*.png, expected {_LAYOUT}")
    return pictures


def _slide(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    picture, values = read_pixels(image).values, read_pixels(mask).values
    values = values.reshape(*values.shape[:2], -1)
    return np.ascontiguousarray(picture[..., :3]), _any(values)


def _any(channels: np.ndarray) -> np.ndarray:
    """Return ``[H, W]``: 1 where any channel is above 0."""
    labels: np.ndarray = np.any(channels > 0, axis=-1).astype(np.uint8)
    return labels
