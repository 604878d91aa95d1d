"""A volume that is read in parts has the bits, the axes and the refusals of the volume that is read as a whole."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.errors import SiteDataError
from sitelora.data.rules import read_image
from sitelora.data.stored_volume import StoredVolume, extent_of

UPRIGHT = np.diag([-0.7, -0.7, 3.0, 1.0])
SAGITTAL = np.array([[0, 0.6, 0, 0], [0, 0, 0.6, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
"""The first axis goes from head to feet."""


def written(path: Path, values: np.ndarray, affine: np.ndarray, *, slope: float | None = None) -> Path:
    image = nib.Nifti1Image(values, affine)
    if slope is not None:
        image.set_data_dtype(np.int16)
        image.header.set_slope_inter(slope, -3)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("affine", [UPRIGHT, SAGITTAL], ids=["upright", "sagittal"])
@pytest.mark.parametrize(
    ("shape", "slope"), [((9, 8, 7), None), ((9, 8, 7), 0.25), ((9, 8, 7, 3), None), ((9, 8, 7, 1), None)]
)
def test_the_parts_are_the_whole(
    shape: tuple[int, ...], slope: float | None, affine: np.ndarray, name: str, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(100, 30, shape)
    path = written(tmp_path / name, values if slope else values.astype(np.float32), affine, slope=slope)
    whole = read_image(path)
    assert extent_of(path) == shape
    volume = StoredVolume.open(path, tmp_path)
    joined = np.full_like(whole.values, np.nan)
    for start in range(0, volume.slices, 2):
        stop = min(start + 2, volume.slices)
        joined[volume.place(start, stop)] = volume.part(start, stop).values
    np.testing.assert_array_equal(joined, whole.values)


def test_the_first_slice_is_the_lowest_in_the_body(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)[:, None, None] * np.ones((6, 4, 4), np.float32)
    volume = StoredVolume.open(written(tmp_path / "a.nii", values, SAGITTAL), tmp_path)
    assert volume.part(0, 1).values.max() == 5  # this axis goes downwards
    corner = volume.part(0, 1).affine
    assert corner is not None
    np.testing.assert_allclose(corner[:3, 3], (SAGITTAL @ [5, 0, 0, 1])[:3])


@pytest.mark.parametrize("damage", ["cut", "trailer", "text", "nan", "flat", "phases"])
def test_what_the_whole_is_refused_for_a_part_is_too(damage: str, tmp_path: Path) -> None:
    values, affine = np.random.default_rng(0).normal(0, 1, (8, 8, 4)).astype(np.float32), UPRIGHT
    if damage == "nan":
        values[3, 3, 1] = np.nan
    if damage == "flat":
        affine = np.diag([0.7, 0.7, 0.0, 1.0])
    if damage == "phases":
        values = np.repeat(values[..., None], 2, axis=-1)
    path = tmp_path / "a.nii.gz"
    image = nib.Nifti1Image(values, None if damage == "flat" else affine)
    if damage == "flat":
        image.header.set_sform(affine, code=1)
        image.header.set_qform(None, code=0)
    content = gzip.compress(image.to_bytes())
    path.write_bytes({"cut": content[:300], "trailer": content[:-8], "text": b"no"}.get(damage, content))
    with pytest.raises(SiteDataError) as whole:
        read_image(path)
    with pytest.raises(SiteDataError) as parts:
        list(StoredVolume.open(path, tmp_path).parts(1))
    if damage not in ("trailer", "cut"):  # zlib words the same fault in two ways
        assert str(parts.value).split(",")[0] == str(whole.value).split(",")[0]
