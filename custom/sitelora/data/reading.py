"""Read one image or label file as an array with its geometry: NIfTI for volumes, PNG for pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from sitelora.data.site_folder import SiteDataError

VOLUMES = (".nii.gz", ".nii")
PICTURES = (".png",)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What a file holds.

    Attributes:
        values: ``[X, Y, Z]`` or ``[X, Y, Z, channels]`` of a volume, ``[H, W]`` or ``[H, W, channels]`` of a
            picture (MONAI's ``LoadImaged`` gives pictures transposed, ``[W, H]``, image and label alike).
        affine: ``[4, 4]`` voxel index to RAS+ mm, ``None`` for a picture.
    """

    values: np.ndarray
    affine: np.ndarray | None

    @property
    def extent(self) -> tuple[int, ...]:
        """The shape without channels: three axes of a volume, two of a picture."""
        return self.values.shape[: 2 if self.affine is None else 3]

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Voxel size along the array's axes, ``None`` for a picture."""
        if self.affine is None:
            return None
        return tuple(float(step) for step in np.linalg.norm(self.affine[:3, :3], axis=0))


def stem(path: Path) -> str:
    """Return the file's name without ``.nii.gz``, ``.nii`` or ``.png``."""
    for ending in (*VOLUMES, *PICTURES):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def read_pixels(path: Path) -> Pixels:
    """Read a NIfTI or PNG file.

    Raises:
        SiteDataError: the file is missing, of another kind, damaged, or of a shape that no image has.
    """
    name = path.name.lower()
    if not path.is_file():
        raise SiteDataError(f"{path}: no such file")
    try:
        if name.endswith(VOLUMES):
            image = nib.load(path)
            pixels = Pixels(values=np.asanyarray(image.dataobj), affine=np.asarray(image.affine))  # type: ignore[attr-defined]
        elif name.endswith(PICTURES):
            with Image.open(path) as picture:
                pixels = Pixels(values=np.asarray(picture), affine=None)
        else:
            raise SiteDataError(f"{path}: found {path.suffix or 'no ending'}, expected {', '.join(VOLUMES + PICTURES)}")
    except SiteDataError:
        raise
    except Exception as error:  # damaged files raise whatever zlib, nibabel or Pillow stumble over
        raise SiteDataError(f"{path}: not readable ({type(error).__name__}: {error})") from error
    axes = (2, 3) if pixels.affine is None else (3, 4)
    if pixels.values.ndim not in axes or pixels.values.size == 0:
        raise SiteDataError(
            f"{path}: found shape {pixels.values.shape}, expected {axes[0]} axes, or one more for channels"
        )
    if pixels.values.dtype.kind not in "buif":
        raise SiteDataError(f"{path}: found {pixels.values.dtype} values, expected real numbers")
    return pixels
