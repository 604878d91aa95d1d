"""A drawn slice through a prostate: a gland of two zones between muscles, above a rectum that may hold a coil."""

from __future__ import annotations

import numpy as np
from canvas import KINDS, SIDE_PX, Array, Canvas


def prostate(c: Canvas) -> Array:
    rng = c.rng
    scale = rng.uniform(0.7, 1.3)
    fat, muscle = rng.uniform(0.3, 0.9), rng.uniform(0.05, 0.35)
    _surroundings(c, fat, muscle, scale)
    coil = rng.random() < 0.35
    radius = scale * (rng.uniform(0.18, 0.32) if coil else rng.uniform(0.08, 0.2))
    wide, high = scale * rng.uniform(0.18, 0.36), scale * rng.uniform(0.14, 0.28)
    place = complex(rng.normal(0, 0.05), rng.normal(-0.05, 0.07))
    gut = place + 1j * (high * rng.uniform(0.95, 1.15) + radius) + rng.normal(0, 0.03)
    bed = c.blob(place, wide * rng.uniform(1.1, 1.5), high * rng.uniform(1.1, 1.5), rough=0.12)
    c.paint(bed, fat * rng.uniform(0.6, 1.3), texture=0.12, opacity=rng.uniform(0.3, 1.0), soft_px=3)
    wall = c.blob(gut, radius * rng.uniform(1.15, 1.5), radius * rng.uniform(1.15, 1.5), rough=0.06)
    c.paint(wall, rng.uniform(0.25, 0.9), texture=0.05)
    lumen = c.blob(gut, radius, radius * (1.0 if coil else rng.uniform(0.7, 1.1)), rough=0.02 if coil else 0.1)
    gland = np.minimum(c.blob(place, wide, high, rough=0.05, power=rng.uniform(2, 2.6), taper=rng.normal(0, 0.15)),
                       -lumen - 0.01)  # fmt: skip
    if rng.random() < 0.6:
        c.paint(gland + rng.uniform(0.01, 0.03), muscle, opacity=rng.uniform(0.4, 1.0))
    rim = rng.uniform(0.25, 1.0)
    organ = c.paint(gland, rim, texture=rng.uniform(0.02, 0.12))
    core = np.minimum(
        c.blob(place - 1j * high * rng.uniform(0.05, 0.35), wide * rng.uniform(0.55, 0.85),
               high * rng.uniform(0.5, 0.8), rough=0.08), gland,
    )  # fmt: skip
    c.inner = c.paint(
        core, max(0.05, rim - rng.uniform(-0.2, 0.6)), texture=rng.uniform(0.04, 0.2), opacity=rng.uniform(0.6, 1.0)
    )
    for _ in range(rng.integers(0, 5)):
        spot = c.blob(place + complex(*rng.normal(0, 0.4, 2)) * high, *rng.uniform(0.02, 0.07, 2), rough=0.1)
        c.paint(np.minimum(spot, core), rng.uniform(0.1, 1.0), opacity=rng.uniform(0.3, 0.8))
    c.thing(organ, "central_organ")
    filling = 0.0 if coil else float(rng.choice([0.02, 0.02, 0.3, 0.6]))
    c.thing(c.paint(lumen, filling + rng.uniform(0, 0.06), texture=0.02 + 0.05 * filling), "fluid")
    if coil or rng.random() < 0.2:  # what lies near a coil is bright
        distance = np.abs(c.plane - np.complex64(gut)) / (radius * rng.uniform(2.0, 4.0))
        c.value = c.value * (1 + np.float32(rng.uniform(0.3, 2.0)) * np.exp(-(distance**2))).astype(np.float32)
    return organ & ~(lumen > 0)


def _surroundings(c: Canvas, fat: float, muscle: float, scale: float) -> None:
    """Fat, the body's outline, muscles as wedges, bones as rings, the pubic bones in front."""
    rng = c.rng
    c.value += rng.uniform(0, 0.08)
    outer = np.ones((SIDE_PX, SIDE_PX), np.float32)
    if rng.random() < 0.5:
        outer = c.blob(0, rng.uniform(0.9, 1.3), rng.uniform(0.7, 1.1), rough=0.04, power=rng.uniform(2, 3.5))
    c.thing(c.paint(outer, fat, texture=rng.uniform(0.03, 0.12)), "body", opaque=False)
    if rng.random() < 0.5:
        c.paint(outer - rng.uniform(0.05, 0.2), rng.uniform(0.2, 0.9) * fat, texture=0.08)
    level = muscle * rng.uniform(0.8, 1.3)
    for side in (-1, 1):
        for _ in range(rng.integers(1, 4)):
            where = complex(side * rng.uniform(0.4, 0.95), rng.uniform(-0.6, 0.8)) * scale
            wedge = c.blob(where, rng.uniform(0.1, 0.28) * scale, rng.uniform(0.3, 0.6) * scale,
                           turn=side * rng.uniform(-0.3, 0.9), rough=0.12)  # fmt: skip
            c.paint(np.minimum(wedge, outer - 0.05), level, texture=0.06)
        where = complex(side * rng.uniform(0.55, 1.0), rng.uniform(-0.6, 0.1)) * scale
        bone = c.blob(
            where, rng.uniform(0.1, 0.2) * scale, rng.uniform(0.12, 0.28) * scale, turn=side * 0.3, rough=0.06
        )
        c.paint(np.minimum(bone + 0.03, outer), muscle * 0.3)
        c.thing(c.paint(np.minimum(bone, outer - 0.03), rng.uniform(0.3, 0.9) * fat + 0.1, texture=0.06), "discs")
        where = complex(side * rng.uniform(0.25, 0.4), 0.1) * scale
        sling = c.blob(where, 0.05 * scale, rng.uniform(0.25, 0.5) * scale,
                       turn=-side * rng.uniform(0, 0.4), rough=0.08)  # fmt: skip
        c.paint(sling, level, texture=0.04, opacity=rng.uniform(0.3, 1.0))
        front = c.blob(
            complex(side * 0.16, -rng.uniform(0.6, 0.8)) * scale, 0.09 * scale, 0.16 * scale, turn=-side * 0.7
        )
        c.paint(front + 0.025, muscle * 0.4)
        c.kinds[KINDS.index("bones")] |= c.paint(front, rng.uniform(0.3, 0.9) * fat, texture=0.05)
