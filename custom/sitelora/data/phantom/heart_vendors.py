"""How each vendor's scanner shows a heart (all numbers our choice): contrast, coil, noise, sharpness, voxels, position.

The extent in-plane is about 160 mm at 1.7 to 2 mm, less than a hospital's 300 mm at 1.4 mm, so that a heart keeps
enough pixels on a small matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sitelora.data.phantom.arithmetic import Array, Draws, exp, rotation

_RIGHT = (-0.651574371, -0.758584761, 0.0)
_DOWN = (0.410388405, -0.352496624, -0.841027638)
_TO_APEX = (-0.637990749, 0.547992054, -0.540992156)
"""Where a short-axis picture's right and lower edge and the heart's axis point in a body, RAS+."""


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """How one vendor's images come about.

    Attributes:
        matrix: pixels along each in-plane axis.
        slices: slices of a stack.
        spacing_mm: in-plane pixel size.
        slice_mm: distance of slices.
        apex_first: the stack's first slice is at the apex, not at the base.
        turn_deg: in-plane rotation of the heart, on average.
        tissue: intensity of every tissue, 0 dark to 1 bright.
        surface_bias: strength of the coil's smooth field.
        gamma: contrast curve.
        noise: standard deviation of the two channels whose magnitude is the image (Rician).
        blur_mm: standard deviation of the in-plane blur.
        full_scale: int16 value of a bright tissue.
    """

    matrix: int
    slices: int
    spacing_mm: float
    slice_mm: float
    apex_first: bool = False
    turn_deg: float = 0.0
    tissue: Mapping[str, float]
    surface_bias: float = 0.3
    gamma: float = 1.0
    noise: float = 0.03
    blur_mm: float = 0.8
    full_scale: int = 250


_TISSUE = {
    "air": 0.01, "lung": 0.06, "vessel": 0.55, "fat": 0.88, "muscle": 0.26, "liver": 0.30, "stomach": 0.48,
    "myocardium": 0.24, "blood": 0.86, "right": 0.78, "epicardium": 0.72,
}  # fmt: skip
_DULL = {**_TISSUE, "fat": 0.66, "blood": 0.66, "right": 0.58, "myocardium": 0.30, "muscle": 0.32, "epicardium": 0.5}
_HEAVY = {**_TISSUE, "fat": 0.95, "blood": 0.74, "right": 0.62, "myocardium": 0.16, "liver": 0.2, "lung": 0.03}

VENDORS: Mapping[str, Vendor] = {
    "vendor-a": Vendor(matrix=96, slices=8, spacing_mm=1.7, slice_mm=10.0, tissue=_TISSUE),
    "vendor-b": Vendor(
        matrix=84, slices=9, spacing_mm=1.95, slice_mm=9.0, turn_deg=-14.0, tissue=_DULL,
        surface_bias=0.55, gamma=0.8, noise=0.05, blur_mm=1.3, full_scale=180,
    ),
    "vendor-c": Vendor(
        matrix=92, slices=10, spacing_mm=1.8, slice_mm=8.0, apex_first=True, turn_deg=12.0, tissue=_HEAVY,
        surface_bias=0.4, gamma=1.25, noise=0.025, blur_mm=0.6, full_scale=400,
    ),
}  # fmt: skip


def any_vendor(rng: Draws) -> Vendor:
    """Draw the appearance of a scanner that is none of :data:`VENDORS`, for making a network's starting values."""
    contrast = rng.uniform(0.0, 1.0)
    ends = (_DULL, _HEAVY) if rng.uniform() < 0.5 else (_DULL, _TISSUE)
    return Vendor(
        matrix=96,
        slices=8,
        spacing_mm=rng.uniform(1.6, 2.1),
        slice_mm=rng.uniform(8.5, 10.5),
        apex_first=rng.uniform() < 0.3,
        turn_deg=rng.uniform(-20.0, 20.0),
        tissue={name: low + contrast * (ends[1][name] - low) for name, low in ends[0].items()},
        surface_bias=rng.uniform(0.1, 0.7),
        gamma=rng.uniform(0.75, 1.35),
        noise=rng.uniform(0.015, 0.06),
        blur_mm=rng.uniform(0.5, 1.5),
        full_scale=int(rng.uniform(150.0, 500.0)),
    )


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Where the voxels of one acquisition lie.

    Attributes:
        x_mm: ``[X, Y]`` to the right of the heart's middle, in the patient's own directions.
        y_mm: ``[X, Y]`` towards the front.
        along_mm: ``[Z]`` from base to apex.
        affine: ``[4, 4]`` voxel index to RAS+ mm; oblique, as short-axis stacks are.
    """

    x_mm: Array
    y_mm: Array
    along_mm: Array
    affine: Array


def place_stack(vendor: Vendor, rng: Draws, *, matrix: int | None = None, slices: int | None = None) -> Stack:
    """Place the slices as a technician would: shifted by some millimetres, turned by some degrees.

    Args:
        vendor: whose scanner.
        rng: draws shift and turn.
        matrix: another number of pixels over the same extent, ``None`` for the vendor's own.
        slices: another number of slices over the same extent, ``None`` for the vendor's own.
    """
    matrix, slices = matrix or vendor.matrix, slices or vendor.slices
    step, thick = vendor.spacing_mm * vendor.matrix / matrix, vendor.slice_mm * vendor.slices / slices
    right, up, start = rng.uniform(-7.0, 7.0), rng.uniform(-7.0, 7.0), rng.uniform(-4.0, 6.0)
    cos, sin = rotation(vendor.turn_deg + rng.normal(0.0, 7.0))
    line = (np.arange(matrix) - (matrix - 1) / 2) * step
    i, j = line[:, None] - right, -line[None, :] - up
    along = start + np.arange(slices) * thick
    affine = np.eye(4)
    for axis in range(3):
        across, down = cos * _RIGHT[axis] - sin * _DOWN[axis], cos * _DOWN[axis] + sin * _RIGHT[axis]
        to_next = -_TO_APEX[axis] if vendor.apex_first else _TO_APEX[axis]
        affine[axis, :3] = (across * step, down * step, to_next * thick)
        first = float(along[-1] if vendor.apex_first else along[0])
        edge = -(matrix - 1) / 2 * step
        affine[axis, 3] = across * (edge - right) + down * (edge + up) + _TO_APEX[axis] * first
    return Stack(
        x_mm=cos * i + sin * j,
        y_mm=cos * j - sin * i,
        along_mm=along[::-1] if vendor.apex_first else along,
        affine=np.round(affine, 5) + 0.0,
    )


def coil_field(vendor: Vendor, stack: Stack, rng: Draws) -> Array:
    """Return the coil's sensitivity ``[X, Y]``, about 1 at the heart, brighter towards the chest."""
    tilt = (rng.normal(-0.4, 0.4), rng.normal(0.7, 0.4))
    plane = (tilt[0] * stack.x_mm + tilt[1] * stack.y_mm) / 90.0
    bowl = (stack.x_mm * stack.x_mm + stack.y_mm * stack.y_mm) / 14000.0
    return exp(vendor.surface_bias * (plane + bowl - 0.2))
