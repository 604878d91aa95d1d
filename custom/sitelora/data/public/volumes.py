"""Volumes of a public release as a site folder: images as they are or clipped, masks as label values, three splits."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.nifti import write_nifti
from sitelora.data.public.converting import relabel
from sitelora.data.reading import Pixels, read_pixels
from sitelora.data.site_folder import Progress, SiteDataError, SiteFolder, first_few
from sitelora.data.site_writer import write_site_folder
from sitelora.seeding import derive_seed

VALIDATION_SHARE = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One case of a release.

    Attributes:
        name: of its files in the site folder, without ending. patient: as the site folder names it.
        image, mask: files of the release. test: whether the dataset's own split holds it out.
    """

    name: str
    patient: str
    image: Path
    mask: Path
    test: bool

    def image_name(self, *, rewritten: bool) -> str:
        """Return the image's file name in the site folder; what is copied stays packed or unpacked."""
        packed = rewritten or self.image.name.lower().endswith(".gz")
        return f"{self.name}.nii{'.gz' if packed else ''}"


def paired(images: Mapping[str, Path], masks: Mapping[str, Path], *, folder: Path, layout: str) -> list[str]:
    """Return the keys of ``images``, sorted, when every image has a mask and the other way round.

    Args:
        images, masks: files by case. folder: where they are. layout: what it holds, for messages.

    Raises:
        SiteDataError: a file is without its counterpart, or there is none.
    """
    alone = sorted(
        {images[key].name for key in images.keys() - masks} | {masks[key].name for key in masks.keys() - images}
    )
    if alone or not images:
        found = f"{first_few(alone)} without counterpart" if alone else "no case"
        raise SiteDataError(
            f"{folder}: found {found}, expected {layout} for every case; complete the folder from the release"
        )
    return sorted(images)


def split_volumes(volumes: Sequence[Volume], *, seed: tuple[str, ...]) -> dict[str, tuple[Volume, ...]]:
    """Return the test cases of the release, and the others as training and validation, by a hash of the patient.

    Args:
        volumes: of one site. seed: what the hash starts from, for example the dataset and the site.
    """
    test = [volume for volume in volumes if volume.test]
    rest = sorted((v for v in volumes if not v.test), key=lambda v: derive_seed(*seed, v.patient))
    held = max(1, round(VALIDATION_SHARE * len(rest))) if len(rest) > 1 else 0
    chosen: dict[str, Iterable[Volume]] = {"training": rest[held:], "validation": rest[:held], "test": test}
    return {split: tuple(sorted(some, key=lambda v: v.name)) for split, some in chosen.items()}


def write_volumes(
    target: Path,
    volumes: Mapping[str, Sequence[Volume]],
    *,
    mapping: Mapping[int, int],
    window: tuple[float, float] | None = None,
    overwrite: bool,
    progress: Progress | None,
    **about: Any,
) -> Path:
    """Write one site folder and return it.

    Args:
        target: the folder; its name is the site's. volumes: by split.
        mapping: value in a mask to label value.
        window: clip the images' intensities to it; ``None`` copies them.
        overwrite, progress: as in ``prepare``. about: further fields of ``SiteFolder``.

    Raises:
        SiteDataError: a mask holds other values than ``mapping`` names, or other data is in the way.
    """
    rewritten = window is not None
    folder = SiteFolder(
        path=target,
        name=target.name,
        splits={split: tuple(_entry(v, rewritten) for v in some) for split, some in volumes.items()},
        **about,
    )
    every = [volume for some in volumes.values() for volume in some]

    def fill(path: Path) -> None:
        for done, volume in enumerate(every, 1):
            image = read_pixels(volume.image)
            place = path / "images" / volume.image_name(rewritten=rewritten)
            if window is None:
                shutil.copyfile(volume.image, place)
            else:
                write_nifti(place, np.clip(image.values, *window).astype(np.float32), _geometry(volume.image, image))
            label = relabel(volume.mask, mapping)
            write_nifti(path / "labels" / f"{volume.name}.nii.gz", label.values, _affine(volume, label, image))
            if progress is not None:
                progress(target.name, done, len(every))

    write_site_folder(folder, fill, overwrite=overwrite)
    return target


def _entry(volume: Volume, rewritten: bool) -> dict[str, Any]:
    return {
        "image": f"images/{volume.image_name(rewritten=rewritten)}",
        "label": f"labels/{volume.name}.nii.gz",
        "patient": volume.patient,
    }


def _geometry(path: Path, pixels: Pixels) -> np.ndarray:
    if pixels.affine is None:
        raise SiteDataError(f"{path}: found a picture, expected a volume")
    return pixels.affine


def _affine(volume: Volume, label: Pixels, image: Pixels) -> np.ndarray:
    """Return the image's affine when the mask's is the same but for rounding, else the mask's own."""
    of_mask, of_image = _geometry(volume.mask, label), _geometry(volume.image, image)
    if np.allclose(of_mask, of_image, atol=1e-2):
        return of_image
    _log.warning("%s lies elsewhere than its image; `sitelora check` says how far", volume.mask)
    return of_mask
