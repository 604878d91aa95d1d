"""Paint a patient of the phantom in one site's tissue intensities, solid over solid (our choice of anatomy).

The neighbours are there to be mistaken for the prostate: vesicles and veins as bright as its peripheral zone,
muscle and wall as dark as its stroma.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sitelora.data.phantom.anatomy import Grid, Patient, Point, ellipsoid
from sitelora.data.phantom.arithmetic import Array, Draws, exp, sin


@dataclass(frozen=True, kw_only=True)
class _Canvas:
    """The picture under way: ``image`` and noises are ``[X, Y, Z]``, ``points`` ``[3, X, Y, Z]`` in mm."""

    image: Array
    points: Array
    edge_mm: float
    fine: Array
    medium: Array
    coarse: Array

    def inside(self, distance_mm: Array) -> Array:
        """Return the share of every voxel that a solid fills."""
        return np.clip(0.5 - distance_mm / self.edge_mm, 0, 1)

    def put(self, value: Array | float, share: Array) -> None:
        """Replace ``share`` of every voxel by ``value``."""
        self.image[...] += share * (value - self.image)

    def solid(self, centre: Point, semi: Point, turn_deg: float = 0.0) -> Array:
        """Return the distance to one ellipsoid."""
        return ellipsoid(self.points, centre, semi, turn_deg)

    def pair(self, centre: Point, semi: Point, turn_deg: float) -> Array:
        """Return the distance to an ellipsoid and its mirror image on the other side of the body."""
        mirrored = (-centre[0], centre[1], centre[2])
        return np.minimum(self.solid(centre, semi, turn_deg), self.solid(mirrored, semi, -turn_deg))


def paint(patient: Patient, grid: Grid, tissue: Mapping[str, float], rng: Draws) -> tuple[Array, Array]:
    """Paint a patient with one site's tissue intensities.

    Args:
        patient: whose pelvis.
        grid: where to sample it.
        tissue: intensity of every tissue that is painted, from "air" to "lesion", 0 dark to 1 bright.
        rng: draws the textures.

    Returns:
        the image ``[X, Y, Z]`` float64 without coil, blur or noise, and the distance in mm to the prostate's
        capsule, of the same shape.
    """
    canvas = _Canvas(
        image=np.full(grid.shape, tissue["air"], np.float64),
        points=patient.bend(grid.points_mm()),
        edge_mm=float(0.6 * (grid.spacing_mm[0] + grid.spacing_mm[1])),
        fine=grid.noise(rng, 2.0),
        medium=grid.noise(rng, 5.0),
        coarse=grid.noise(rng, 14.0),
    )
    rectum = patient.rectum(canvas.points)
    capsule = patient.prostate(canvas.points, grid.spacing_mm)
    septa = _ridge(grid.noise(rng, 9.0) / 0.16)  # sheets where a smooth field is zero
    _paint_pelvis(canvas, patient.pelvis_scale, septa, tissue)
    _paint_neighbours(canvas, patient, rectum, capsule, tissue)
    _paint_rectum(canvas, patient.stool, rectum, tissue)
    _paint_prostate(canvas, patient, capsule, tissue, rng)
    return canvas.image, capsule


def _ridge(x: Array) -> Array:
    """Return 1 where ``x`` is 0, falling off as a Gaussian."""
    return exp(-(x * x))


def _paint_pelvis(canvas: _Canvas, k: float, septa: Array, tissue: Mapping[str, float]) -> None:
    """Paint skin, fat, muscles and bones, ``k`` being this patient's scale."""
    p, medium, coarse = canvas.points, canvas.medium, canvas.coarse
    skin = canvas.solid((0, -2, 0), (92 * k, 68 * k, 900))
    contrast = tissue["fat"] - tissue["muscle"]
    canvas.put(tissue["fat"] * (1 + 0.07 * medium + 0.05 * coarse) - 0.45 * contrast * septa, canvas.inside(skin))
    canvas.put(tissue["muscle"], canvas.inside(np.abs(skin + 1.2) - 1.0))
    fibres = _ridge(sin(0.28 * p[1] + 0.20 * np.abs(p[0]) + 1.3 * coarse) / 0.22)
    strands = np.clip(0.5 + 0.6 * medium, 0, 1) * fibres
    muscle = tissue["muscle"] * (1 + 0.14 * medium + 0.10 * canvas.fine) + 0.45 * contrast * strands
    for (x, y, z), semi, turn_deg in (
        ((46, 31, -4), (36, 13, 90), 28.0),  # pectineus and obturator externus
        ((26, 48, 6), (20, 7, 60), -14.0),  # rectus and adductor origins
        ((39, -4, 4), (8, 29, 70), -14.0),  # obturator internus
        ((48, -50, 0), (42, 17, 90), 16.0),  # gluteus maximus
    ):
        canvas.put(muscle, canvas.inside(canvas.pair((k * x, k * y, z), semi, turn_deg)))
    for (x, y, z), semi, turn_deg in (
        ((58, -8, 2), (14, 19, 60), 12.0),  # ischium and acetabulum
        ((15, 37, -8), (15, 7, 17), -24.0),  # pubis
        ((0, -57, 14), (13, 6, 22), 0.0),  # coccyx
    ):
        bone = canvas.pair((k * x, k * y, z), semi, turn_deg)
        canvas.put(tissue["cortex"], canvas.inside(bone))
        canvas.put(tissue["marrow"] * (1 + 0.10 * medium + 0.06 * coarse), canvas.inside(bone + 2.2))


def _paint_neighbours(
    canvas: _Canvas, patient: Patient, rectum: Array, capsule: Array, tissue: Mapping[str, float]
) -> None:
    """Paint what may be taken for the prostate: sling, veins, bladder, seminal vesicles, penile bulb."""
    p, fine, medium, inside = canvas.points, canvas.fine, canvas.medium, canvas.inside
    px, py, pz = patient.centre_mm
    base = pz + patient.half_height_mm
    sling_semi = (patient.half_width_mm + 4.5, patient.half_depth_mm + 20, 42)
    sling = np.minimum(canvas.solid((px, py - 11, pz - 14), sling_semi), rectum - 4)
    below = inside(p[2] - pz - 10) * inside(p[1] - py - 10)
    canvas.put(tissue["muscle"] * (1 + 0.1 * medium), inside(np.abs(sling) - 1.9) * below)
    veins = np.clip(0.9 * medium + 0.5 * fine, 0, 1.2) * np.clip(1 - np.abs(capsule - 3.5) / 3.5, 0, 1)
    canvas.put(tissue["plexus"], np.clip(veins, 0, 1))
    size = patient.bladder_mm
    bladder = canvas.solid((px * 0.5, py + 7, base + size * 0.72), (1.35 * size, size, size))
    canvas.put(tissue["wall"] * (1 + 0.08 * medium), inside(bladder))
    canvas.put(tissue["urine"] * (1 + 0.01 * fine), inside(bladder + 3.2))
    vesicle = np.minimum(
        canvas.solid((px + 14, py - 9, base + 2), (15, 5.5, 7), -16.0),
        canvas.solid((px - 14, py - 9, base + 2), (15, 5.5, 7), 16.0),
    )
    canvas.put(tissue["vesicle"] * (1 + 0.30 * np.clip(medium + 0.5 * fine, -1.2, 1)), inside(vesicle))
    bulb = canvas.solid((px, py + 1, pz - patient.half_height_mm - 9), (9, 8, 10))
    canvas.put(tissue["muscle"], inside(bulb - 2.5))
    canvas.put(tissue["bulb"] * (1 + 0.10 * medium), inside(bulb))


def _paint_rectum(canvas: _Canvas, stool: float, rectum: Array, tissue: Mapping[str, float]) -> None:
    """Paint wall, mucosa and content; ``stool`` is 0 for air or a balloon, 1 for a filled rectum."""
    medium, inside = canvas.medium, canvas.inside
    folds = 2.6 + 0.9 * medium * (0.3 + 0.7 * stool)
    canvas.put(tissue["wall"] * (1 + 0.15 * medium), inside(rectum))
    canvas.put(1.5 * tissue["wall"], 0.6 * inside(np.abs(rectum + folds) - 0.5))
    filled = np.clip(0.5 + 0.7 * canvas.coarse + 0.4 * medium, 0, 1) * stool
    canvas.put(tissue["lumen"] + filled * (tissue["stool"] - tissue["lumen"]), inside(rectum + folds))


def _paint_prostate(canvas: _Canvas, patient: Patient, capsule: Array, tissue: Mapping[str, float], rng: Draws) -> None:
    """Paint peripheral zone, transition zone with its nodules, stroma, urethra, a lesion and the capsule."""
    p, fine, medium, inside = canvas.points, canvas.fine, canvas.medium, canvas.inside
    px, py, pz = patient.centre_mm
    a, b, c = patient.half_width_mm, patient.half_depth_mm, patient.half_height_mm
    organ = inside(capsule)
    canvas.put(tissue["peripheral"] * (1 + 0.10 * medium + 0.06 * fine + 0.05 * canvas.coarse), organ)
    size = 0.55 + 0.25 * patient.hyperplasia
    zone_semi = (size * a, (size + 0.10) * b, 0.85 * c)
    zone = canvas.solid((px, py + 0.22 * b, pz + 0.12 * c), zone_semi, patient.turn_deg)
    within = inside(zone) * organ
    canvas.put(tissue["stroma"], inside(zone - 0.8) * organ)
    canvas.put(tissue["transition"] * (1 + 0.18 * medium + 0.10 * fine), within)
    for _ in range(4 + int(14 * patient.hyperplasia)):
        x, y, z = (rng.uniform(-0.75, 0.75) * half for half in (size * a, size * b, 0.8 * c))
        radius_mm = rng.uniform(2.0, 3.5 + 4.0 * patient.hyperplasia)
        nodule = canvas.solid((px + x, py + 0.22 * b + y, pz + z), (radius_mm, radius_mm, radius_mm))
        canvas.put(tissue["stroma"], inside(nodule) * within)
        bright = tissue["nodule"] * rng.uniform(0.45, 1.1)
        canvas.put(bright * (1 + 0.15 * fine), inside(nodule + 0.9) * within)
    front = canvas.solid((px, py + 0.95 * b, pz), (0.42 * a, 0.32 * b, 0.9 * c))
    canvas.put(tissue["stroma"], 0.85 * inside(front) * organ)
    right, front_of = p[0] - px, p[1] - py - 0.1 * b
    urethra = np.sqrt(right * right + front_of * front_of) - 2.2
    canvas.put(tissue["nodule"], 0.7 * inside(urethra) * organ)
    if patient.lesion is not None:
        x, y, z = (share * half for share, half in zip(patient.lesion, (a, b, c), strict=True))
        lesion = canvas.solid((px + x, py + y, pz + z), (5.0, 3.6, 5.0))
        canvas.put(tissue["lesion"], 0.85 * inside(lesion) * organ)
    canvas.put(tissue["stroma"], 0.55 * np.clip(1 - np.abs(capsule + 0.3) / 0.9, 0, 1))
