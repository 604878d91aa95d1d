"""Paint a heart and what lies around it in one vendor's intensities, both phases at once (our choice of surroundings).

Arrays in here are ``[slices, X, Y]``, with the phases before where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sitelora.data.phantom.arithmetic import Array, Draws, stretch
from sitelora.data.phantom.heart import ANGLES, Heart, angle_of, outlines
from sitelora.data.phantom.heart_vendors import Stack


def paint_heart(heart: Heart, stack: Stack, tissue: Mapping[str, float], rng: Draws) -> tuple[Array, Array]:
    """Paint one patient.

    Args:
        heart: whose heart.
        stack: where to sample it.
        tissue: intensity of every tissue, from "air" to "epicardium".
        rng: draws the surroundings and textures.

    Returns:
        the image ``[2, slices, X, Y]`` float64 without coil, blur or noise, and the left cavity's share of every voxel,
        of the same shape.
    """
    edge_mm = 1.3 * float(abs(stack.x_mm[1, 0] - stack.x_mm[0, 0]) + abs(stack.y_mm[1, 0] - stack.y_mm[0, 0]))
    along = stack.along_mm[:, None, None]
    x = stack.x_mm[None] - heart.lean[0] * (along - 40.0)
    y = stack.y_mm[None] - heart.lean[1] * (along - 40.0)
    medium = _noise(rng, (7, 14, 14), x.shape)
    image = np.stack([_surroundings(x, y, along, tissue, medium, edge_mm, rng)] * 2)
    radii, distance = outlines(heart, stack.along_mm), np.sqrt(x * x + y * y)
    look = _Looker(angle_of(x, y), distance, edge_mm)
    outside = radii.outside
    _put(image, tissue["epicardium"] * (1 + 0.1 * medium), look.inside(outside + heart.fat_mm * (outside > 0.5)))
    _put(image, tissue["myocardium"] * (1 + 0.12 * medium), look.inside(outside))
    strands = np.clip(1.3 * _noise(rng, (9, 28, 28), x.shape) - 1.1, 0.0, 0.6)
    right = look.inside(radii.right)
    _put(image, tissue["right"] * (1 + 0.05 * medium) * (1 - strands), right)
    left = look.inside(radii.cavity)
    _put(image, tissue["myocardium"] * (1 + 0.12 * medium), look.inside(radii.wall))
    _put(image, tissue["blood"] * (1 + 0.04 * medium), left)
    for ax, ay, radius_mm in heart.muscles.tolist():
        for phase, closer in enumerate((0.62, 0.62 - 0.4 * heart.shortening)):
            dx, dy = x - closer * heart.radius_mm * ax, y - closer * heart.radius_mm * ay
            muscle = np.clip(0.5 - (np.sqrt(dx * dx + dy * dy) - radius_mm) / edge_mm, 0.0, 1.0)
            level = np.clip((along - 15.0) / 8.0, 0.0, 1.0)
            _put(image[phase], tissue["myocardium"] * 1.1, muscle * level * left[phase])
    return image, left


class _Looker:
    """Looks up which share of every voxel lies within an outline that is tabled over the angle."""

    def __init__(self, angle: Array, distance_mm: Array, edge_mm: float) -> None:
        place = angle * (ANGLES / 4.0)
        below = np.minimum(np.floor(place), ANGLES - 1)
        self._share = place - below
        slices = np.arange(angle.shape[0]).reshape(-1, 1, 1) * (ANGLES + 1)
        self._index = below.astype(np.int64) + slices
        self._distance, self._edge = distance_mm, edge_mm

    def inside(self, radii: Array) -> Array:
        """Return ``[phases, slices, X, Y]`` of ``[phases, slices, ANGLES + 1]``."""
        shares = []
        for table in radii:
            flat = table.reshape(-1)
            low, high = np.take(flat, self._index), np.take(flat, self._index + 1)
            radius = low + (high - low) * self._share
            shares.append(np.clip(0.5 - (self._distance - radius) / self._edge, 0.0, 1.0))
        return np.stack(shares)


def _surroundings(
    x: Array, y: Array, along: Array, tissue: Mapping[str, float], medium: Array, edge_mm: float, rng: Draws
) -> Array:
    """Paint lung with its vessels, chest wall, what lies below the diaphragm, and the aorta."""
    fine, coarse = _noise(rng, (8, 30, 30), x.shape), _noise(rng, (3, 5, 5), x.shape)
    deep = along / 80.0

    def inside(distance_mm: Array) -> Array:
        return np.clip(0.5 - distance_mm / edge_mm, 0.0, 1.0)

    image = tissue["lung"] * (1 + 0.3 * medium)
    _put(image, tissue["vessel"], np.clip(2.0 * (fine - 1.9), 0.0, 1.0))
    floor = rng.uniform(-46.0, -36.0) + 10.0 * deep + rng.uniform(0.0, 0.25) * x + 4.0 * coarse
    below = inside(y - floor)
    _put(image, tissue["fat"] * (0.85 + 0.08 * medium), inside(y - floor - 3.0))
    _put(image, tissue["liver"] * (1 + 0.10 * medium), below)
    _put(image, tissue["stomach"] * (1 + 0.2 * coarse), below * inside(rng.uniform(2.0, 25.0) - x + 5.0 * coarse))
    lumps = inside(3.0 * (1.0 - np.abs(coarse + 0.4 * medium)))
    _put(image, tissue["fat"], below * lumps)
    ax, ay = rng.uniform(22.0, 38.0), rng.uniform(-62.0, -50.0)
    aorta = np.sqrt((x - ax) * (x - ax) + (y - ay) * (y - ay))
    _put(image, tissue["muscle"], inside(aorta - 12.5))
    _put(image, tissue["blood"], inside(aorta - 11.0))
    wide, high = rng.uniform(74.0, 88.0), rng.uniform(62.0, 74.0)
    u, v = (x - 8.0 - 12.0 * deep) / wide, (y + 6.0 + 16.0 * deep) / high
    chest = (np.sqrt(u * u + v * v) - 1.0) * (0.5 * (wide + high)) + 2.5 * coarse
    _put(image, tissue["muscle"] * (1 + 0.2 * medium), inside(-chest))
    _put(image, tissue["fat"] * (1 + 0.06 * medium), inside(5.0 - chest))
    _put(image, tissue["muscle"], inside(np.abs(chest - 11.0) - 1.6 + 1.5 * coarse))
    _put(image, tissue["air"], inside(rng.uniform(22.0, 34.0) - chest))
    return image


def _noise(rng: Draws, grid: tuple[int, int, int], shape: tuple[int, ...]) -> Array:
    """Return a smooth random field of about unit variance and ``shape``, drawn on ``grid``."""
    return 1.5 * stretch(rng.normals(grid), shape)


def _put(image: Array, value: Array | float, share: Array) -> None:
    """Replace ``share`` of every voxel by ``value``."""
    image += share * (value - image)
