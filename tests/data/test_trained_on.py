"""Ranges of the training images: three figures of all of them, nothing of one, and what is far outside."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.trained_on import Facts, TrainedOn, ranges_of

SEEN = [
    Facts(channels=1, lower=-1.2345, upper=803.4, voxel_mm=(0.6123, 0.6123, 3.0)),
    Facts(channels=1, lower=12.0, upper=512.0, voxel_mm=(0.5, 0.5, 3.6)),
]


def test_they_are_the_lowest_and_the_highest_in_three_figures() -> None:
    found = TrainedOn.over(SEEN)
    assert found == TrainedOn(
        channels=(1,),
        lower=(-1.23, 12.0),
        upper=(512.0, 803.0),
        narrowest=500.0,
        voxel_mm=((0.5, 0.612), (0.5, 0.612), (3.0, 3.6)),
    )
    assert TrainedOn.from_plain(json.loads(json.dumps(found.to_plain()))) == found
    assert TrainedOn.over([]) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"upper": 1500.0}, []),
        ({"voxel_mm": (0.9, 0.9, 6.0)}, []),
        ({"channels": 3}, ["3 channel(s), trained on 1"]),
        ({"lower": -1000.0}, ["intensities from -1000 to 803.4 (percentiles 1 and 99), trained on -1.23 to 803"]),
        ({"upper": 65000.0}, ["intensities from -1.234 to 6.5e+04 (percentiles 1 and 99), trained on -1.23 to 803"]),
        ({"lower": 0.0, "upper": 1.0}, ["intensities from 0 to 1 (percentiles 1 and 99), trained on -1.23 to 803"]),
        (
            {"voxel_mm": (0.6, 0.6, 9.0)},
            ["voxels of 0.6 x 0.6 x 9 mm, trained on 0.5-0.612 x 0.5-0.612 x 3-3.6 mm"],
        ),
    ],
)
def test_what_is_far_outside_is_said(change: dict[str, object], said: list[str]) -> None:
    ranges = TrainedOn.over(SEEN)
    assert ranges is not None
    assert ranges.unlike(replace(SEEN[0], **change)) == said  # type: ignore[arg-type]


def test_they_are_read_from_the_images_whatever_their_axes(tmp_path: Path) -> None:
    values = np.linspace(0, 100, 8 * 9 * 10, dtype=np.float32).reshape(8, 9, 10)
    paths = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 4.0, 1.0])), paths[0])
    nib.save(nib.Nifti1Image(values, np.diag([4.0, 1.0, 1.0, 1.0])), paths[1])
    found = ranges_of(paths)
    assert found is not None
    assert found.voxel_mm == ((1.0, 1.0), (1.0, 1.0), (4.0, 4.0))
    assert found.lower == (1.0, 1.0)


@pytest.mark.parametrize("told", [None, {}, {"channels": [1]}, {**TrainedOn.over(SEEN).to_plain(), "lower": [1]}])  # type: ignore[union-attr]
def test_what_is_no_range_is_refused(told: object) -> None:
    with pytest.raises(ValueError, match="no ranges of images"):
        TrainedOn.from_plain(told)
