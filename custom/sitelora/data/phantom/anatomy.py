"""A male pelvis of soft solids, each patient another one: the anatomy behind the phantom (our choice).

Coordinates are RAS+ millimetres around the middle of the prostate. Every solid is a signed distance in mm,
negative inside, so that a site can sample the same anatomy on any grid and annotate it tightly or generously.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sitelora.data.phantom.arithmetic import Array, Draws, cos, power, rotation, sin, stretch

Point = tuple[float, float, float]

_WAVES = ((17.0, 1.5),) * 4 + ((7.0, 0.5),) * 3 + ((3.5, 0.2),) * 2
"""Length and push in mm of the waves that bend a patient."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The voxels of one acquisition.

    Attributes:
        affine: ``[4, 4]`` voxel index to RAS+ mm.
        shape: voxels along the three axes; the third is the slice axis.
    """

    affine: Array
    shape: tuple[int, int, int]

    @property
    def spacing_mm(self) -> Array:
        """Voxel size along the three axes, in mm."""
        x, y, z = self.affine[:3, :3] * self.affine[:3, :3]
        return np.sqrt(x + y + z)

    def points_mm(self) -> Array:
        """Return ``[3, X, Y, Z]`` float64: right, anterior and superior of every voxel's centre."""
        i, j, k = np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij")
        rows = [[float(number) for number in row] for row in self.affine[:3]]
        return np.stack([a * i + b * j + c * k + origin for a, b, c, origin in rows])

    def noise(self, rng: Draws, scale_mm: float) -> Array:
        """Return a smooth random field ``[X, Y, Z]``, about unit variance, varying over ``scale_mm``."""
        size = [max(2, int(np.ceil(n * s / scale_mm)) + 1) for n, s in zip(self.shape, self.spacing_mm, strict=True)]
        size = [min(a, max(2, b)) for a, b in zip(size, self.shape, strict=True)]
        return 1.5 * stretch(rng.normals(size), self.shape)


def ellipsoid(points: Array, centre: Point, semi: Point, turn_deg: float = 0.0) -> Array:
    """Return the distance in mm, first order, to an ellipsoid turned about the long axis of the body."""
    x, y, z = (points[i] - centre[i] for i in range(3))
    c, s = rotation(turn_deg)
    u, v, w = (c * x + s * y) / semi[0], (c * y - s * x) / semi[1], z / semi[2]
    rho = np.sqrt(u * u + v * v + w * w) + 1e-6
    slope = np.sqrt(_square(u / semi[0]) + _square(v / semi[1]) + _square(w / semi[2])) / rho + 1e-4
    return (rho - 1) / slope


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One man: the sizes in mm and the whims that make his pelvis differ from the next.

    Attributes:
        half_width_mm: half the prostate's extent from right to left.
        half_depth_mm: from front to back.
        half_height_mm: from apex to base.
        centre_mm: middle of the prostate, right, anterior, superior.
        turn_deg: rotation of the prostate about the long axis of the body.
        hyperplasia: 0 for a small transition zone, 1 for a large one full of nodules.
        waves: ``[9, 7]`` wave vector (3, per mm), phase and push (3, mm) of the waves that bend everything.
        rectum_mm: outer radius of the rectum.
        rectum_gap_mm: distance between prostate and rectum, negative where the rectum dents the prostate.
        rectum_drift_mm: sideways bends of the rectum.
        stool: 0 for air or a balloon, 1 for a filled rectum.
        bladder_mm: radius of the bladder.
        pelvis_scale: size of bones and muscles, 1 on average.
        lesion: centre of a dark focus in shares of the half extents, or ``None``.
    """

    half_width_mm: float
    half_depth_mm: float
    half_height_mm: float
    centre_mm: Point
    turn_deg: float
    hyperplasia: float
    waves: Array
    rectum_mm: float
    rectum_gap_mm: float
    rectum_drift_mm: float
    stool: float
    bladder_mm: float
    pelvis_scale: float
    lesion: Point | None

    @classmethod
    def draw(cls, rng: Draws, *, endorectal_coil: bool = False) -> Patient:
        """Draw a patient; an endorectal coil is a balloon that widens the rectum and dents the prostate."""
        hyperplasia = rng.beta_2_3()
        growth = 0.88 + 0.35 * hyperplasia
        width, depth, height = (growth * rng.normal(*size) for size in ((23.0, 1.8), (15.5, 1.3), (19.0, 1.8)))
        side = 1.0 if rng.uniform() < 0.5 else -1.0
        lesion = (side * rng.uniform(0.35, 0.75), rng.uniform(-0.75, -0.35), rng.uniform(-0.5, 0.4))
        return cls(
            half_width_mm=width,
            half_depth_mm=depth * (0.9 if endorectal_coil else 1.0),
            half_height_mm=height,
            centre_mm=(rng.uniform(-6.0, 6.0), rng.uniform(-5.0, 5.0), rng.uniform(-3.0, 3.0)),
            turn_deg=rng.normal(0, 5),
            hyperplasia=hyperplasia,
            waves=np.array([_wave(rng, *size) for size in _WAVES]),
            rectum_mm=rng.uniform(16, 20) if endorectal_coil else rng.uniform(8, 13),
            rectum_gap_mm=rng.uniform(-3.0, 0.5) if endorectal_coil else rng.uniform(-0.5, 3.0),
            rectum_drift_mm=rng.normal(0, 4),
            stool=0.0 if endorectal_coil else float(rng.uniform() < 0.6),
            bladder_mm=rng.uniform(16, 26),
            pelvis_scale=rng.uniform(0.93, 1.07),
            lesion=lesion if rng.uniform() < 0.45 else None,
        )

    def bend(self, points: Array) -> Array:
        """Return ``points`` moved by some millimetres, smoothly: nobody is made of ellipsoids."""
        moved = points.copy()
        for kx, ky, kz, phase, *push in self.waves.tolist():
            wave = cos(kx * points[0] + ky * points[1] + 0.6 * kz * points[2] + phase)
            for axis in range(3):
                moved[axis] += push[axis] * wave
        return moved

    def _from_centre(self, points: Array) -> Array:
        return points - np.array(self.centre_mm)[:, None, None, None]

    def rectum(self, points: Array) -> Array:
        """Return the distance in mm to the outside of the rectum's wall, ``[X, Y, Z]``."""
        x, y, z = self._from_centre(points)
        canal = np.clip((z + self.half_height_mm * 0.75) / (0.6 * self.half_height_mm), 0, 1)
        radius = 6.5 + (self.rectum_mm - 6.5) * canal
        behind = self.half_depth_mm + self.rectum_gap_mm + radius + 5.0 * (1 - canal)
        bend = self.rectum_drift_mm * sin(z / 18.0)
        return np.sqrt(_square((x - bend) / 1.08) + _square(y + behind)) - radius

    def prostate(self, points: Array, spacing_mm: Array) -> Array:
        """Return the distance in mm to the capsule, ``[X, Y, Z]``: a chestnut, dented by the rectum."""
        x, y, z = self._from_centre(points)
        c, s = rotation(self.turn_deg)
        x, y = c * x + s * y, c * y - s * x
        level = z / self.half_height_mm
        narrow = 1 - 0.22 * np.clip(-level - 0.1, 0, 1)
        front = np.clip(y / self.half_depth_mm, 0, 1)
        u = x / (self.half_width_mm * narrow * (1 - 0.30 * front))
        v = (y + 1.5 * level) / (self.half_depth_mm * narrow * np.where(y < 0, 0.92, 1.05))
        in_plane = power(power(u * u, 1.2) + power(v * v, 1.2), 1 / 1.2)
        implicit = np.sqrt(in_plane + level * level) - 1
        slopes = np.gradient(implicit, *(float(step) for step in spacing_mm))
        steep = np.sqrt(_square(slopes[0]) + _square(slopes[1]) + _square(slopes[2]))
        distance = implicit / np.maximum(steep, 0.25 / self.half_width_mm)
        dent = 1.2 - self.rectum(points)
        bend = np.clip(0.5 + 0.5 * (dent - distance) / 3.0, 0, 1)  # smooth maximum over 3 mm
        return distance + (dent - distance) * bend + 3.0 * bend * (1 - bend)


def _wave(rng: Draws, length_mm: float, push_mm: float) -> list[float]:
    """Draw one row of :attr:`Patient.waves`."""
    vector = [rng.normal() / length_mm for _ in range(3)]
    phase = rng.uniform(0, 2 * math.pi)
    return [*vector, phase, *(rng.normal() * push_mm for _ in range(3))]


def _square(x: Array) -> Array:
    return x * x
