"""Percentiles of an image are MONAI's to the last bit, from whichever of its two ways they come there."""

from __future__ import annotations

import math

import pytest
import torch
from monai.transforms.utils_pytorch_numpy_unification import percentile

from sitelora.data.intensity import MANY, percentiles


@pytest.mark.parametrize("count", [1, 2, 3, 99, 100, 101, 4096, 30_011, MANY, MANY + 1])
@pytest.mark.parametrize("kind", ["drawn", "whole", "one value"])
def test_they_are_monais(count: int, kind: str) -> None:
    image = torch.randn(count, generator=torch.Generator().manual_seed(count)) * 300
    if kind != "drawn":
        image = image.round() if kind == "whole" else torch.full((count,), 7.25)
    before = image.clone()
    for lower, upper in ((1.0, 99.0), (0.0, 100.0), (0.5, 37.3)):
        expected = float(percentile(image, lower)), float(percentile(image, upper))
        assert percentiles(image, lower, upper) == expected
    assert torch.equal(image, before)


def test_any_axes_and_layout() -> None:
    image = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(0))
    expected = percentiles(image, 1, 99)
    assert percentiles(image.permute(2, 0, 1), 1, 99) == expected
    assert percentiles(image.flip(1), 1, 99) == expected


def test_what_is_not_a_number_has_no_percentile() -> None:
    image = torch.arange(100.0)
    image[3] = torch.nan
    assert all(math.isnan(value) for value in percentiles(image, 1, 99))
