"""A heart of two chambers in short-axis slices, at end-diastole and end-systole: the anatomy behind the cine phantom.

What tells the groups apart are sizes that a cardiologist reads (numbers: our choice, after ACDC's definitions): the
left cavity and how far it contracts (DCM), how thick the wall is (HCM), whether a part of it is thin and stands still
(MINF), how large the right cavity is and how little it contracts (RV). Every one of them varies with the patient, and
mild cases look like the normal heart beside them.

Everything is a radius around the left cavity's middle, tabled over the angle; a muscle keeps its volume while it
shortens, which is what makes it thicken. Millimetres; the right chamber lies towards minus x, the front towards plus y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sitelora.data.phantom.arithmetic import Array, Draws, exp, rotation

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
"""Normal; dilated; hypertrophic; after an infarction; abnormal right ventricle."""
ANGLES = 96
"""Entries of a table of radii, the first repeated at its end."""


@dataclass(frozen=True, kw_only=True)
class Heart:
    """One patient's heart.

    Attributes:
        group: one of :data:`GROUPS`.
        radius_mm: of the left cavity at its widest, end-diastole.
        wall_mm: thickness of its wall there.
        length_mm: of the cavity, from base to apex.
        shortening: share of the radius that contraction takes away.
        descent: share of the length by which the base comes down.
        right_mm: depth of the right cavity, from septum to free wall.
        right_shortening: share of it that contraction takes away.
        thick_mm: what the wall has more at ``thick_at``.
        thick_at: unit vector to the middle of the thickening, (x, y).
        thin: share by which a scar thins the wall at its middle; there the wall stands still.
        thin_at: unit vector to the middle of the scar.
        flat: share by which pressure on the right pushes the septum in.
        oval: ``[3, 3]`` bumps of the outline: unit vector (x, y) and share of the radius.
        lean: how far the middle moves a millimetre along the axis, (x, y).
        muscles: ``[2, 3]`` papillary muscles: unit vector (x, y) and radius in mm.
        fat_mm: thickness of the fat around the heart.
    """

    group: str
    radius_mm: float
    wall_mm: float
    length_mm: float
    shortening: float
    descent: float
    right_mm: float
    right_shortening: float
    thick_mm: float
    thick_at: tuple[float, float]
    thin: float
    thin_at: tuple[float, float]
    flat: float
    oval: Array
    lean: tuple[float, float]
    muscles: Array
    fat_mm: float

    @classmethod
    def draw(cls, rng: Draws, group: str) -> Heart:
        """Draw a patient of a group.

        Raises:
            ValueError: an unknown group.
        """
        if group not in GROUPS:
            raise ValueError(f"found the group {group!r}, expected one of {', '.join(GROUPS)}")
        size = rng.uniform(0.88, 1.12)
        normal = cls(
            group=group,
            radius_mm=size * rng.normal(24.0, 1.5),
            wall_mm=size * rng.normal(8.2, 0.8),
            length_mm=size * rng.normal(80.0, 3.5),
            shortening=rng.normal(0.35, 0.03),
            descent=rng.normal(0.14, 0.02),
            right_mm=size * rng.normal(27.0, 2.5),
            right_shortening=rng.normal(0.38, 0.04),
            thick_mm=0.0,
            thick_at=rotation(rng.normal(170.0, 25.0)),
            thin=0.0,
            thin_at=rotation(rng.uniform(0.0, 360.0)),
            flat=0.0,
            oval=np.array([[*rotation(rng.uniform(0.0, 360.0)), rng.normal(0.0, 0.05)] for _ in range(3)]),
            lean=(rng.normal(0.05, 0.05), rng.normal(-0.05, 0.05)),
            muscles=np.array([[*rotation(rng.normal(at, 12.0)), rng.uniform(3.0, 4.8)] for at in (35.0, -75.0)]),
            fat_mm=rng.uniform(1.5, 5.0),
        )
        return replace(normal, **_changes(normal, rng.uniform(0.0, 1.0), rng))


def _changes(heart: Heart, severity: float, rng: Draws) -> Mapping[str, Any]:
    """Return what a disease of ``severity`` 0 to 1 changes."""
    if heart.group == "DCM":
        return {
            "radius_mm": heart.radius_mm * (1.12 + 0.25 * severity),
            "wall_mm": heart.wall_mm * rng.uniform(0.85, 1.0),
            "shortening": heart.shortening - 0.12 - 0.13 * severity,
            "descent": 0.6 * heart.descent,
            "right_shortening": heart.right_shortening - 0.1 * severity,
        }
    if heart.group == "HCM":
        return {
            "radius_mm": heart.radius_mm * rng.uniform(0.86, 0.98),
            "wall_mm": heart.wall_mm + 1.0 + 1.5 * severity,
            "thick_mm": 3.0 + 7.0 * severity,
            "shortening": heart.shortening + 0.03,
        }
    if heart.group == "MINF":
        return {
            "radius_mm": heart.radius_mm * (1.03 + 0.12 * severity),
            "thin": 0.35 + 0.3 * severity,
            "shortening": heart.shortening - 0.04 - 0.06 * severity,
        }
    if heart.group == "RV":
        return {
            "right_mm": heart.right_mm * (1.2 + 0.35 * severity),
            "right_shortening": heart.right_shortening - 0.1 - 0.14 * severity,
            "flat": 0.06 + 0.18 * severity,
        }
    return {}


@dataclass(frozen=True, kw_only=True)
class Radii:
    """Outlines around the left cavity's middle, each ``[phases, slices, ANGLES + 1]`` in mm.

    Attributes:
        cavity: of the left cavity, 0 below the apex.
        wall: outside of its wall.
        right: outside of the right cavity; not above ``wall`` where there is none.
        outside: of all muscle.
    """

    cavity: Array
    wall: Array
    right: Array
    outside: Array


def directions() -> tuple[Array, Array]:
    """Return the unit vectors of the table's angles: the ``n``-th at ``4 n / ANGLES`` of :func:`angle_of`."""
    turn = np.arange(ANGLES + 1) * (4.0 / ANGLES)
    x = np.where(turn < 2.0, 1.0 - turn, turn - 3.0)
    y = np.where(turn < 1.0, turn, np.where(turn < 3.0, 2.0 - turn, turn - 4.0))
    length = np.sqrt(x * x + y * y)
    return x / length, y / length


def angle_of(x: Array, y: Array) -> Array:
    """Return 0 to 4 once around, anticlockwise from x: along a square, which needs no arc tangent."""
    share = y / (np.abs(x) + np.abs(y) + 1e-9)
    return np.where(x < 0.0, 2.0 - share, np.where(share < 0.0, 4.0 + share, share))


def outlines(heart: Heart, along_mm: Array) -> Radii:
    """Cut a heart into slices.

    Args:
        heart: whose.
        along_mm: ``[slices]`` distance of each from the base at end-diastole, towards the apex.

    Returns:
        the outlines at end-diastole and end-systole.
    """
    still = along_mm[:, None]
    moved = (still - heart.descent * heart.length_mm) / (1.0 - heart.descent)  # where its muscle was at end-diastole
    cavity, wall = _left(heart, still)
    before, thick = _left(heart, moved)
    scar = _bump(heart.thin_at, 5.0) * (1.0 if heart.thin else 0.0)
    inner = before * (1.0 - heart.shortening * (1.0 - 0.95 * scar))
    shorter = 1.0 - heart.descent * (1.0 - 0.6 * scar)
    outer = np.sqrt(inner * inner + (thick * thick - before * before) / shorter)
    relaxed = _right(heart, still, 1.0)
    squeezed = _right(heart, moved, 1.0 - heart.right_shortening)
    right = np.stack([wall + relaxed, outer + squeezed])
    both = np.stack([wall, outer])
    muscle = 2.6 * np.clip(np.stack([relaxed, squeezed]) / 3.0, 0.0, 1.0)
    return Radii(cavity=np.stack([cavity, inner]), wall=both, right=right, outside=right + muscle)


def _left(heart: Heart, along_mm: Array) -> tuple[Array, Array]:
    """Return the left cavity's radius and its wall's, ``[slices, ANGLES + 1]``, of a relaxed heart."""
    x, y = directions()
    shape = 1.0 - heart.flat * _bump((-1.0, 0.0), 3.0)
    for ax, ay, share in heart.oval.tolist():
        along = ax * x + ay * y
        shape = shape + share * (2.0 * along * along - 1.0)
    thick = heart.wall_mm + heart.thick_mm * _bump(heart.thick_at, 1.6)
    thick = thick * (1.0 - heart.thin * _bump(heart.thin_at, 5.0))
    valves = np.clip(1.0 + along_mm / 6.0, 0.35, 1.0)  # above the base the wall is an atrium's
    cavity = heart.radius_mm * shape * _dome(along_mm / heart.length_mm)
    outer = (heart.radius_mm * shape + thick) * _dome(along_mm / (heart.length_mm + heart.wall_mm))
    return cavity, cavity + (outer - cavity) * valves


def _right(heart: Heart, along_mm: Array, share: float) -> Array:
    """Return how deep the right cavity is, ``[slices, ANGLES + 1]``: a crescent on the septum."""
    x, _ = directions()
    depth = heart.right_mm * share * _dome(along_mm / (0.88 * heart.length_mm))
    edge = 0.22 + 0.15 * (1.0 - share)
    return depth * np.sqrt(np.clip((-x - edge) / (1.0 - edge), 0.0, 1.0))


def _dome(level: Array) -> Array:
    """Return a chamber's width at ``level`` 0 (base) to 1 (apex): widest at a tenth, closed at the end."""
    above = np.clip((level - 0.1) / 0.9, -0.45, 1.0)
    return np.sqrt(1.0 - above * above)


def _bump(at: tuple[float, float], sharpness: float) -> Array:
    """Return ``[ANGLES + 1]``: 1 in one direction, falling off to both sides."""
    x, y = directions()
    return exp(sharpness * (at[0] * x + at[1] * y - 1.0))
