"""Percentiles counted part by part are NumPy's, to the last bit, as MONAI takes them of more than a million values."""

import numpy as np
import pytest
import torch
from monai.transforms.utils_pytorch_numpy_unification import percentile

from sitelora.data.exact_percentiles import exact_percentiles

COUNT = 1_000_003
PERCENTS = (0, 1, 37.3, 50, 99.0, 100)


@pytest.mark.parametrize("kind", ["noise", "whole numbers", "mostly zero", "tiny and huge", "both zeros", "one value"])
def test_they_are_monais(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = {
        "noise": lambda: rng.normal(0, 100, COUNT),
        "whole numbers": lambda: rng.integers(-500, 500, COUNT),
        "mostly zero": lambda: rng.gamma(1, 30, COUNT) * (rng.random(COUNT) < 0.015),
        "tiny and huge": lambda: np.exp(rng.normal(0, 8, COUNT)) * rng.choice([-1, 1], COUNT),
        "both zeros": lambda: rng.choice([-0.0, 0.0, 1e-45], COUNT),
        "one value": lambda: np.full(COUNT, -7.25),
    }[kind]().astype(np.float32)
    expected = tuple(float(percentile(torch.from_numpy(values), percent)) for percent in PERCENTS)
    assert exact_percentiles(lambda: np.array_split(values, 5), PERCENTS) == expected


def test_the_values_may_lie_in_any_order_of_axes_and_there_must_be_one() -> None:
    values = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    assert exact_percentiles(lambda: [values[:, :2], values[:, 2:]], (0, 50, 100)) == (0.0, 11.5, 23.0)
    with pytest.raises(ValueError, match="no value"):
        exact_percentiles(lambda: [], (50,))
