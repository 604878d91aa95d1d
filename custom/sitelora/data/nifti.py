"""NIfTI files that are the same byte for byte whenever they hold the same voxels."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write ``voxels`` as ``.nii.gz`` without a time stamp or a file name inside.

    Args:
        path: the file to write; its folder must exist.
        voxels: ``[X, Y, Z]`` of an integer or float type that NIfTI knows.
        affine: ``[4, 4]`` voxel index to RAS+ mm.
    """
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as packed:
        packed.write(image.to_bytes())
