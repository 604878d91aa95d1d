"""NIfTI files that are the same byte for byte whenever they hold the same voxels.

On every processor: what nibabel computes for the header's second form (quaternion, voxel sizes) comes out of a singular
value decomposition, whose last bits and signs depend on the library. They are rounded here, to what a quarter of a
micrometre over a whole body needs. The gzip around it is zlib's: a Python built on another zlib packs the same bytes
otherwise.
"""

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
    _settle(image.header)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as packed:
        packed.write(image.to_bytes())


def _settle(header: nib.Nifti1Header) -> None:
    """Round quaternion and voxel sizes; of the two quaternions of a half turn take the one that starts with plus."""
    sizes = np.array([float(size) for size in header["pixdim"]])
    header["pixdim"] = np.round(sizes, 5) + 0.0
    turn = [round(float(header[f"quatern_{name}"]), 6) for name in "bcd"]
    half = sum(part * part for part in turn) > 1 - 1e-6
    sign = -1.0 if half and next(part for part in turn if part) < 0 else 1.0
    for name, part in zip("bcd", turn, strict=True):
        header[f"quatern_{name}"] = sign * part + 0.0
