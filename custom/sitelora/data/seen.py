"""What training sees of an image's intensities: which values become 0 and 1, without an image in torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWER, UPPER = 0.01, 0.99
"""As in ``data/intensity.py``."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What training sees of an image's intensities, in fp32 and after scaling.

    Attributes:
        low: the value that becomes 0. high: the value that becomes 1.
        mean: of the scaled image.
        by: "percentiles"; "extremes" where the percentiles are equal; "nothing" where the image has one value.
    """

    low: float
    high: float
    mean: float
    by: str


def seen_in(values: NDArray[Any]) -> Seen:
    """Return what the scaling of ``data/intensity.py`` makes of an image; by ranks, not between them, which is quick.

    Args:
        values: of the image, any shape, uint8 or fp32.
    """
    flat = values.reshape(-1)
    ranks = (math.floor(LOWER * (flat.size - 1)), math.ceil(UPPER * (flat.size - 1)))
    if flat.dtype == np.uint8:
        counts = np.bincount(flat, minlength=256)
        flat, weights = np.arange(256, dtype=np.float32)[counts > 0], counts[counts > 0]
        low, high = (float(flat[np.searchsorted(np.cumsum(weights), rank, side="right")]) for rank in ranks)
    else:
        weights, ordered = None, np.partition(flat, ranks)
        low, high = float(ordered[ranks[0]]), float(ordered[ranks[1]])
    by = "percentiles" if high > low else "extremes"
    if not high > low:
        low, high = float(flat.min()), float(flat.max())
    if not high > low:
        return Seen(low=low, high=high, mean=0.0, by="nothing")
    return Seen(low=low, high=high, mean=float(np.average(scaled(flat, low, high), weights=weights)), by=by)


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Return values as training sees them, fp32 from 0 to 1.

    Args:
        values: any shape. low: becomes 0. high: becomes 1, above ``low``.
    """
    found: NDArray[np.float32] = values - np.float32(low)
    found /= np.float32(high - low)
    return np.clip(found, 0, 1, out=found)


def compact(values: NDArray[np.float32]) -> NDArray[Any]:
    """Return the same values as uint8 where they are whole numbers from 0 to 255, which is quicker to go through."""
    if values.min() < 0 or values.max() > 255:
        return values
    small = values.astype(np.uint8)
    return small if np.array_equal(small, values) else values
