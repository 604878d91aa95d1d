"""How each site of the phantom images and annotates: scanner, coil, habit (all numbers our choice).

They follow the look of the public six-site prostate set: endorectal coils at some sites, fat suppression at
one, oblique slices, other array orientations. The extent in-plane is 74 to 94 mm at 0.58 to 0.9 mm, less
than a hospital's 200 mm at 0.4 to 0.8 mm, so that the organ keeps enough pixels on a small matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sitelora.data.phantom.anatomy import Grid, Patient
from sitelora.data.phantom.arithmetic import Array, Draws, blur, exp, rotation


@dataclass(frozen=True, kw_only=True)
class Habit:
    """How a site annotates.

    Attributes:
        name: for people.
        margin_mm: contour outside (positive) or inside (negative) of the capsule.
        smoothing_mm: standard deviation of the in-plane smoothing of the contour.
        skip_apex: share of the organ's slices left out at the lower end.
        skip_base: the same at the upper end.
    """

    name: str
    margin_mm: float = 0.0
    smoothing_mm: float = 0.0
    skip_apex: float = 0.0
    skip_base: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """How a site's images come about.

    Attributes:
        matrix: pixels along each in-plane axis.
        slices: slices of a volume.
        spacing_mm: in-plane pixel size.
        slice_mm: distance of slices.
        axes: where the array axes point, as nibabel's axis codes.
        tilt_deg: rotation of the slices about the left-right and the long axis of the body.
        tissue: intensity of every tissue, 0 dark to 1 bright.
        endorectal_coil: a coil in the rectum: bright near it, dark far away.
        surface_bias: strength of the smooth coil field of a body coil.
        gamma: contrast curve.
        noise: standard deviation of the two channels whose magnitude is the image (Rician).
        full_scale: int16 value of a bright tissue.
    """

    matrix: int
    slices: int
    spacing_mm: float
    slice_mm: float
    axes: str
    tissue: Mapping[str, float]
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    endorectal_coil: bool = False
    surface_bias: float = 0.25
    gamma: float = 1.0
    noise: float = 0.03
    full_scale: int = 800


# Unlike in a hospital's T2, the peripheral zone is the brightest tissue, so that a demo of minutes can learn the organ.
T2 = {
    "air": 0.01, "fat": 0.46, "muscle": 0.15, "marrow": 0.36, "cortex": 0.06, "plexus": 0.52,
    "peripheral": 0.95, "transition": 0.62, "stroma": 0.16, "nodule": 0.74, "lesion": 0.42, "urine": 0.28,
    "vesicle": 0.40, "wall": 0.20, "lumen": 0.04, "stool": 0.30, "bulb": 0.26,
}  # fmt: skip
_FAT_SUPPRESSED = {
    **T2, "fat": 0.26, "muscle": 0.14, "marrow": 0.24, "plexus": 0.70, "transition": 0.66,
    "stool": 0.40, "vesicle": 0.55, "urine": 0.50, "bulb": 0.45,
}  # fmt: skip
_DULL = {
    **T2,
    "fat": 0.42,
    "muscle": 0.22,
    "peripheral": 0.80,
    "transition": 0.62,
    "nodule": 0.70,
    "marrow": 0.40,
    "plexus": 0.46,
}
_HEAVY = {
    **T2,
    "fat": 0.36,
    "transition": 0.52,
    "lumen": 0.02,
    "muscle": 0.11,
}

PROFILES: Mapping[str, tuple[Scanner, Habit]] = {
    "site-1": (
        Scanner(matrix=128, slices=16, spacing_mm=0.72, slice_mm=3.6, axes="LAS", tissue=T2, noise=0.020),
        Habit(name="faithful annotations"),
    ),
    "site-2": (
        Scanner(
            matrix=128, slices=20, spacing_mm=0.6, slice_mm=2.5, axes="RAS", tissue=T2,
            endorectal_coil=True, noise=0.015, full_scale=500,
        ),
        Habit(name="tight annotations", margin_mm=-1.0),
    ),
    "site-3": (
        Scanner(
            matrix=112, slices=14, spacing_mm=0.84, slice_mm=4.0, axes="LPS", tissue=_FAT_SUPPRESSED,
            surface_bias=0.35, noise=0.025, full_scale=350,
        ),
        Habit(name="generous annotations", margin_mm=1.0),
    ),
    "site-4": (
        Scanner(
            matrix=120, slices=16, spacing_mm=0.76, slice_mm=3.3, axes="RAS", tissue=_DULL,
            tilt_deg=(12.0, 4.0), gamma=0.8, noise=0.025, full_scale=1200,
        ),
        Habit(name="smoothed annotations", smoothing_mm=3.0),
    ),
    "site-5": (
        Scanner(
            matrix=128, slices=18, spacing_mm=0.58, slice_mm=3.0, axes="LAS", tissue=_HEAVY,
            endorectal_coil=True, gamma=1.15, noise=0.022, full_scale=1500,
        ),
        Habit(name="annotations without the apex", skip_apex=0.15),
    ),
    "site-6": (
        Scanner(
            matrix=96, slices=15, spacing_mm=0.9, slice_mm=3.4, axes="LPI", tissue=_DULL, surface_bias=0.5,
            gamma=1.3, noise=0.032, full_scale=250,
        ),
        Habit(name="annotations without the base", skip_base=0.15),
    ),
}  # fmt: skip


def place_slices(scanner: Scanner, rng: Draws, *, matrix: int | None = None, slices: int | None = None) -> Grid:
    """Place the slices over the site's extent, shifted by up to 4 mm as a technician would.

    Args:
        scanner: the site's way of imaging.
        rng: draws the shift.
        matrix: another number of pixels over the same extent, ``None`` for the site's own.
        slices: another number of slices over the same extent, ``None`` for the site's own.
    """
    matrix, slices = matrix or scanner.matrix, slices or scanner.slices
    in_plane = scanner.spacing_mm * scanner.matrix / matrix
    spacing = np.array([in_plane, in_plane, scanner.slice_mm * scanner.slices / slices])
    sign = np.array([1 if code in "RAS" else -1 for code in scanner.axes])
    (cos_x, sin_x), (cos_z, sin_z) = (rotation(angle) for angle in scanner.tilt_deg)
    turned = np.array(
        [[cos_z, -sin_z * cos_x, sin_z * sin_x], [sin_z, cos_z * cos_x, -cos_z * sin_x], [0, sin_x, cos_x]]
    )
    shape = (matrix, matrix, slices)
    affine = np.eye(4)
    affine[:3, :3] = turned * (sign * spacing)
    middle = [(n - 1) / 2 for n in shape]
    for axis in range(3):
        x, y, z = (float(affine[axis, k]) * middle[k] for k in range(3))
        affine[axis, 3] = rng.uniform(-4, 4) - (x + y + z)
    return Grid(affine=np.round(affine, 5) + 0.0, shape=shape)


def coil_field(scanner: Scanner, grid: Grid, patient: Patient, rng: Draws) -> Array:
    """Return the coil's sensitivity ``[X, Y, Z]``, about 1 at the prostate."""
    p = grid.points_mm()
    if scanner.endorectal_coil:
        right, front, up = patient.centre_mm
        x, y, z = p[0] - right, p[1] - front + (patient.half_depth_mm + patient.rectum_mm - 4), 0.6 * (p[2] - up)
        reach_mm = rng.uniform(30, 38)
        return 2.0 / (1 + (x * x + y * y + z * z) / (reach_mm * reach_mm)) + 0.06
    tilt = [rng.normal(0, std) for std in (0.6, 1.0, 0.3)]
    plane = (tilt[0] * p[0] + tilt[1] * p[1] + tilt[2] * p[2]) / 60.0
    bowl = (p[0] * p[0] + p[1] * p[1]) / 3600.0 - 0.4
    return exp(scanner.surface_bias * (plane + 0.7 * bowl))


def blur_in_plane(volume: Array, grid: Grid, sigma_mm: float) -> Array:
    """Blur ``[X, Y, Z]`` in-plane by a Gaussian."""
    return blur(volume, sigma_mm / float(grid.spacing_mm[0]), (0, 1))


def annotate(capsule: Array, grid: Grid, habit: Habit) -> Array:
    """Return the label ``[X, Y, Z]`` uint8 that a site with this habit draws around the organ."""
    mask = capsule < habit.margin_mm
    if habit.smoothing_mm:
        mask = blur_in_plane(mask.astype(np.float64), grid, habit.smoothing_mm) > 0.5
    slices = np.flatnonzero((capsule < 0).any(axis=(0, 1)))
    if grid.affine[2, 2] < 0:
        slices = slices[::-1]
    lower, upper = round(habit.skip_apex * len(slices)), round(habit.skip_base * len(slices))
    if lower or upper:
        kept = slices[lower : len(slices) - upper]
        mask &= np.isin(np.arange(mask.shape[2]), kept)
    return mask.astype(np.uint8)
