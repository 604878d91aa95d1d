"""Percentiles of more values than memory should hold, equal to NumPy's to the last bit.

Two counts over the values, read part by part: by the upper half of their bits, then by the lower half of those that
share the upper half with a value that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Parts = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives all values, part by part, as often as it is called."""
_HALF = 1 << 16


def exact_percentiles(parts: Parts, percents: Sequence[float]) -> tuple[float, ...]:
    """Return what ``np.percentile`` returns of all values, rounded to single precision.

    Args:
        parts: the values. percents: from 0 to 100.

    Raises:
        ValueError: there is no value.
    """
    upper = np.zeros(_HALF, np.int64)
    for part in parts():
        upper += np.bincount(_ordered(part) >> 16, minlength=_HALF)
    count = int(upper.sum())
    if not count:
        raise ValueError("no value to take a percentile of")
    places = [(count - 1) * (percent / 100) for percent in percents]
    below = [int(np.floor(place)) for place in places]
    wanted = sorted({rank for low in below for rank in (low, min(low + 1, count - 1))})
    found = _ranked(parts, upper, wanted)
    results = []
    for place, low in zip(places, below, strict=True):
        a, b, weight = found[low], found[min(low + 1, count - 1)], np.float64(place - low)
        step = np.float64(b - a)  # the difference in single precision, as NumPy takes it
        value = a + step * weight if weight < 0.5 else b - step * (1 - weight)
        results.append(float(np.float32(value)))
    return tuple(results)


def _ranked(parts: Parts, upper: NDArray[np.int64], ranks: Sequence[int]) -> dict[int, np.float32]:
    """Return the values at some places of the sorted values."""
    ends = np.cumsum(upper)
    half = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
    lower = {key: np.zeros(_HALF, np.int64) for key in half.values()}
    for part in parts():
        keys = _ordered(part)
        for key, counts in lower.items():
            counts += np.bincount(keys[keys >> 16 == key] & (_HALF - 1), minlength=_HALF)
    found = {}
    for rank, key in half.items():
        inside = rank - (int(ends[key - 1]) if key else 0)
        low = int(np.searchsorted(np.cumsum(lower[key]), inside, side="right"))
        found[rank] = _value(key << 16 | low)
    return found


def _ordered(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return whole numbers in the order of the values: the bits, turned round where the sign is minus."""
    bits = np.ascontiguousarray(values.ravel(order="K"), np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _value(key: int) -> np.float32:
    bits = key & ~(1 << 31) if key >> 31 else ~key & 0xFFFFFFFF
    return np.uint32(bits).view(np.float32)
