"""Arithmetic of the phantom that gives the same bits on every processor.

IEEE 754 fixes the last bit of ``+ - * /`` and of the square root, of comparing and of rounding to whole numbers; numpy
does each of them in a step of its own. It does not fix ``exp``, ``sin`` or ``pow``, nor in which order a sum, a matrix
product or a convolution adds: there vector units and libraries differ in the last bits, and a voxel near a threshold or
a half changes. So everything here and in the folder's other modules is float64 of the former kind and integers;
``tests/data/phantom/test_bytes.py`` holds the list of what may be called.

Right to about 1e-9, which is more than a picture needs: what counts is that it is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray

_LOG_2 = 0.6931471805599453
_EVERY_OTHER = np.uint64(0x0000FFFF0000FFFF)
_SMALL = 1e-12
"""What :func:`power` takes for zero."""


class Draws:
    """Random numbers out of the raw 64-bit words of PCG64, which are integers and the same everywhere.

    numpy's own ``normal`` and ``beta`` call ``exp`` and ``log`` of the machine's library.
    """

    def __init__(self, seed: int) -> None:
        """Start at ``seed``, as :func:`sitelora.seeding.derive_seed` gives it."""
        self._words = np.random.PCG64(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number from ``low`` up to ``high``."""
        return low + (high - low) * (float(int(self._words.random_raw()) >> 11) * 2.0**-53)

    def normal(self, mean: float = 0.0, std: float = 1.0) -> float:
        """Return a number about normally distributed: see :meth:`normals`."""
        return mean + std * float(self.normals((1,))[0])

    def normals(self, shape: Sequence[int]) -> Array:
        """Return float64 numbers of ``shape``, mean 0 and variance 1.

        Each is the sum of twelve 16-bit uniform numbers, whole numbers until the end: normal to the eye, and never
        beyond 6.
        """
        words = self._words.random_raw((3, *shape))
        pairs = np.zeros(tuple(shape), np.uint64)  # two sums side by side, in the upper and the lower half
        for word in words:
            pairs += word & _EVERY_OTHER
            pairs += (word >> np.uint64(16)) & _EVERY_OTHER
        total = ((pairs >> np.uint64(32)) + (pairs & np.uint64(0xFFFFFFFF))).astype(np.int64)
        return (total - 6 * 0xFFFF).astype(np.float64) / 65536.0

    def beta_2_3(self) -> float:
        """Return a number of the Beta(2, 3) distribution: the second smallest of four uniform ones."""
        return sorted(self.uniform() for _ in range(4))[1]


def exp(x: Array) -> Array:
    """Return ``e ** x``, elementwise; ``x`` is held within -40 and 40."""
    small = np.clip(x, -40.0, 40.0) / 256.0
    value = _polynomial(small, [1.0 / math.factorial(n) for n in range(8)])
    for _ in range(8):
        value = value * value
    return value


def cos(x: Array) -> Array:
    """Return the cosine, elementwise, of angles in radians."""
    turns = x / (2.0 * math.pi)
    angle = (turns - np.rint(turns)) * (2.0 * math.pi)
    return _polynomial(angle * angle, [(-1.0) ** n / math.factorial(2 * n) for n in range(12)])


def sin(x: Array) -> Array:
    """Return the sine, elementwise, of angles in radians."""
    return cos(x - math.pi / 2.0)


def power(x: Array, exponent: float) -> Array:
    """Return ``x ** exponent`` of numbers that are not negative, elementwise."""
    mantissa, twos = np.frexp(np.maximum(x, _SMALL))
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    log = 2.0 * ratio * _polynomial(ratio * ratio, [1.0 / (2 * n + 1) for n in range(9)]) + twos * _LOG_2
    return np.where(x < _SMALL, 0.0, exp(exponent * log))


def rotation(degrees: float) -> tuple[float, float]:
    """Return cosine and sine of one angle."""
    angle = np.array([degrees * (math.pi / 180.0)])
    return float(cos(angle)[0]), float(sin(angle)[0])


def stretch(field: Array, shape: Sequence[int]) -> Array:
    """Return ``field [x, y, z]`` interpolated linearly to ``shape``, corner voxels on corner voxels."""
    for axis, length in enumerate(shape):
        position = np.arange(length) * (field.shape[axis] - 1) / max(length - 1, 1)
        below = np.minimum(np.floor(position).astype(np.int64), field.shape[axis] - 2)
        share = (position - below).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
        low, high = np.take(field, below, axis), np.take(field, below + 1, axis)
        field = low + (high - low) * share
    return field


def blur(volume: Array, sigma: float, axes: Sequence[int]) -> Array:
    """Return ``volume`` blurred by a Gaussian of ``sigma`` voxels along ``axes``; the border is repeated outwards."""
    reach = max(1, math.ceil(3 * sigma))
    offsets = np.arange(-reach, reach + 1) / max(sigma, 1e-3)
    weights = [float(weight) for weight in exp(-0.5 * offsets * offsets)]
    total = sum(weights)
    for axis in axes:
        width = [(reach, reach) if a == axis else (0, 0) for a in range(volume.ndim)]
        lines = np.moveaxis(np.pad(volume, width, mode="edge"), axis, 0)
        length = volume.shape[axis]
        blurred = np.zeros((length, *lines.shape[1:]), np.float64)
        for start, weight in enumerate(weights):
            blurred += lines[start : start + length] * (weight / total)
        volume = np.ascontiguousarray(np.moveaxis(blurred, 0, axis))
    return volume


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """Return ``c[0] + c[1] x + c[2] x^2 ...`` by Horner's rule, a rounding a step."""
    value = np.full(x.shape, coefficients[-1], np.float64)
    for coefficient in coefficients[-2::-1]:
        value *= x
        value += coefficient
    return value
