"""What is drawn: layouts that look like kinds of medical pictures, made of no data at all.

Each function paints one picture and returns the mask ``[128, 128]`` of what such a picture is usually
segmented for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from canvas import KINDS, SIDE_PX, Array, Canvas
from prostate import prostate

DETAIL_FROM = 16_000
"""Index of the first picture of the second part of the curriculum."""


def chest(c: Canvas) -> Array:
    rng = c.rng
    air, tissue = rng.uniform(0.0, 0.15), rng.uniform(0.5, 0.85)
    level = max(0.0, tissue - rng.uniform(0.12, 0.55))
    c.value += air
    wide = rng.uniform(0.72, 1.4)
    trunk = c.blob(0.15j, wide, rng.uniform(1.1, 1.7), rough=0.03, power=rng.uniform(2.5, 5), taper=0.08)
    neck = c.blob(-1.0j, rng.uniform(0.2, 0.35), 0.5, rough=0.02, power=3)
    body = np.maximum(trunk, neck)
    if rng.random() < 0.6:  # shoulders and arms: air between arm and trunk is no lung
        body = np.maximum(body, c.blob(rng.uniform(-0.7, -0.35) * 1j, wide + 0.25, 0.3, rough=0.03, power=3))
        lean, away = rng.uniform(-0.15, 0.45), rng.uniform(0.05, 0.3)
        for side in (-1, 1):
            arm = c.blob(side * (wide + away) + 0.3j, rng.uniform(0.1, 0.22), 0.9, turn=-side * lean, power=3)
            body = np.maximum(body, arm)
    mask = c.paint(body, tissue, texture=rng.uniform(0, 0.08), soft_px=rng.uniform(1, 5))
    c.thing(mask, "body", opaque=False)
    middle, top, bottom = rng.normal(0, 0.04), rng.uniform(-0.88, -0.6), rng.uniform(0.3, 0.75)
    spread, reach = min(rng.uniform(0.36, 0.5), 0.52 * wide), min(rng.uniform(0.28, 0.4), 0.42 * wide)
    soft = rng.uniform(1, 4)
    heart = c.blob(
        complex(middle + rng.uniform(0.08, 0.2), bottom - rng.uniform(0.1, 0.4)), rng.uniform(0.2, 0.4),
        rng.uniform(0.22, 0.4), turn=rng.uniform(-0.8, 0.0), rough=0.05,
    )  # fmt: skip
    spine = np.float32(rng.uniform(0.08, 0.2)) - np.abs(c.plane.real - np.float32(middle))
    lungs = np.zeros((SIDE_PX, SIDE_PX), bool)
    for side in (-1, 1):
        low = bottom + rng.normal(0, 0.06)
        centre = complex(middle + side * spread, (top + low) / 2)
        depth = c.blob(
            centre, reach * rng.uniform(0.9, 1.1), (low - top) / 2 * rng.uniform(1.0, 1.15),
            turn=-side * rng.uniform(-0.05, 0.25), rough=0.05,
            power=rng.uniform(2.0, 3.5), taper=rng.uniform(0, 0.5),
        )  # fmt: skip
        dome = c.blob(
            complex(centre.real + side * rng.uniform(-0.1, 0.1), low + rng.uniform(0.3, 0.55)),
            rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.6), turn=side * rng.uniform(0, 0.4), rough=0.03,
        )  # fmt: skip
        depth = np.minimum(np.minimum(depth, -dome), np.minimum(-spine, -heart - 0.01))
        below = c.paint(
            np.minimum(dome, trunk - 0.02),
            tissue + rng.uniform(-0.05, 0.25),
            opacity=rng.uniform(0.2, 1.0),
            soft_px=soft,
        )
        mask = c.paint(depth, max(0.0, level + rng.normal(0, 0.04)), texture=rng.uniform(0.02, 0.1), soft_px=soft)
        c.thing(below & ~mask, "below_lungs")
        c.thing(mask, "lungs")
        lungs |= mask
        if rng.random() < 0.7:  # darker towards the top or the side
            tilt = c.plane.imag * rng.normal(0, 0.12) + side * c.plane.real * rng.normal(0, 0.12)
            c.value = c.value + tilt.astype(np.float32) * np.clip(depth * 10, 0, 1)
        if rng.random() < 0.35:  # gas below the dome is dark as lungs are
            gas = c.blob(complex(centre.real, low + rng.uniform(0.1, 0.4)), *rng.uniform(0.05, 0.18, 2), rough=0.15)
            c.paint(np.minimum(gas, dome - 0.05), level, opacity=rng.uniform(0.4, 1.0), soft_px=2)
    mask = c.paint(
        np.minimum(heart, trunk),
        tissue + rng.uniform(-0.05, 0.2),
        opacity=rng.uniform(0.5, 1.0),
        soft_px=soft * 1.5,
    )
    c.thing(mask & ~lungs, "heart")
    c.paint(
        np.minimum(spine, body),
        tissue + rng.uniform(0.0, 0.25),
        opacity=rng.uniform(0.2, 0.8),
        soft_px=soft * 2,
    )
    if rng.random() < 0.6:  # vessels around the roots of the lungs
        for side in (-1, 1):
            root = c.blob(complex(middle + side * 0.2, (top + bottom) / 2), 0.18, 0.25, rough=0.3)
            c.value = c.value + np.clip(root * 4, 0, 1) * np.float32(rng.uniform(0.05, 0.25)) * np.abs(
                c.textures.cut(rng)
            )
    _chest_bones(c, trunk, middle, top, bottom, tissue)
    if rng.random() < 0.35:  # shadows inside the lungs belong to them
        for _ in range(rng.integers(1, 4)):
            spot = c.blob(complex(*rng.uniform(-0.6, 0.6, 2)), *rng.uniform(0.05, 0.25, 2), rough=0.15)
            alpha = np.clip(spot * 8, 0, 1) * lungs * np.float32(rng.uniform(0.1, 0.5))
            c.value = c.value * (1 - alpha) + np.float32(tissue) * alpha
    if rng.random() < 0.3:  # tags and letters
        place = complex(rng.choice([-0.85, 0.85]), rng.uniform(-0.9, -0.6))
        c.paint(c.blob(place, 0.05, 0.04, rough=0.2, power=4), 1.0)
    if rng.random() < 0.3:  # the field of the beam ends
        edge = rng.uniform(0.75, 1.0) - (c.plane.imag if rng.random() < 0.6 else np.abs(c.plane.real))
        c.value = np.where(edge > 0, c.value, 0).astype(np.float32)
    return lungs


def _chest_bones(c: Canvas, trunk: Array, middle: float, top: float, bottom: float, tissue: float) -> None:
    """Ribs as bent stripes seen through the lungs, collar bones across their tops."""
    rng = c.rng
    bones = c.kinds[KINDS.index("bones")]
    if rng.random() < 0.85:
        pitch, bend = rng.uniform(18, 34), rng.uniform(0.2, 0.9)
        x, y = np.abs(c.plane.real - np.float32(middle)), c.plane.imag
        stripe = np.sin(pitch * (y + bend * x * x - rng.uniform(0, 0.5) * x) + rng.uniform(0, 6.28))
        inside = (trunk > 0.04) & (y > top - 0.1) & (y < bottom + 0.1) & (x > 0.1)
        cut, sharp = rng.uniform(0.0, 0.7), rng.uniform(1, 3)
        c.value = c.value + np.float32(rng.uniform(0.02, 0.15)) * np.clip((stripe - cut) * sharp, 0, 1) * inside
        bones |= (stripe > cut + 0.15) & inside
    if rng.random() < 0.6:
        for side in (-1, 1):
            place = complex(middle + side * 0.45, top + rng.uniform(-0.05, 0.15))
            bone = c.blob(place, 0.4, 0.03, turn=side * rng.uniform(-0.35, 0.0), rough=0.02)
            bones |= c.paint(bone, tissue + 0.2, opacity=rng.uniform(0.2, 0.7), soft_px=2)


def pelvis(c: Canvas) -> Array:
    rng = c.rng
    c.value += rng.uniform(0, 0.1)
    scale = rng.uniform(0.75, 1.3)
    fat, muscle = rng.uniform(0.4, 1.0), rng.uniform(0.1, 0.5)
    outer = c.blob(0, 0.95 * scale, rng.uniform(0.6, 0.8) * scale, rough=0.03, power=rng.uniform(2, 3))
    c.thing(c.paint(outer, fat, texture=0.05), "body", opaque=False)
    c.paint(outer - rng.uniform(0.05, 0.2), muscle, texture=rng.uniform(0.03, 0.1))
    for side in (-1, 1):
        disc = c.blob(side * rng.uniform(0.55, 0.7) * scale + 0.02j, 0.17 * scale, 0.17 * scale, rough=0.04)
        c.thing(c.paint(disc, rng.uniform(0.3, 0.9), texture=0.06), "discs")
        wall = c.blob(side * rng.uniform(0.3, 0.4) * scale, 0.07 * scale, 0.3 * scale, turn=side * 0.2, rough=0.06)
        c.paint(wall, muscle * rng.uniform(0.5, 1.2), texture=0.04)
    bed = c.blob(rng.normal(0, 0.03) + 0.02j, 0.33 * scale, 0.42 * scale, rough=0.08)
    c.paint(bed, fat * rng.uniform(0.5, 1.0), texture=0.08)
    size = rng.uniform(0.13, 0.27) * scale
    centre = complex(rng.normal(0, 0.03), rng.normal(0.02, 0.05))
    if rng.random() < 0.7:
        bladder = c.blob(
            centre - 1j * size * rng.uniform(1.3, 1.9), size * rng.uniform(0.8, 1.5), size * 0.8, rough=0.06
        )
        c.thing(c.paint(bladder, rng.uniform(0.75, 1.1), texture=0.02), "fluid")
    rectum = c.blob(centre + 1j * size * rng.uniform(1.3, 1.8), size * rng.uniform(0.5, 0.9), size * 0.6, rough=0.1)
    c.thing(c.paint(rectum, rng.choice([0.02, 0.3, 0.6]) + rng.uniform(0, 0.1), texture=0.05))
    shell = c.blob(centre, size * rng.uniform(1.0, 1.3), size * rng.uniform(0.8, 1.1), rough=0.06)
    if rng.random() < 0.5:
        c.paint(shell + 0.025, muscle * 0.4, opacity=0.7)
    organ = c.paint(shell, rng.uniform(0.35, 0.95), texture=rng.uniform(0.02, 0.15))
    c.thing(organ, "central_organ")
    if rng.random() < 0.75:
        core = c.blob(centre - 0.2j * size, size * 0.75, size * 0.6, rough=0.1)
        c.inner = c.paint(np.minimum(core, shell), rng.uniform(0.2, 0.7), texture=rng.uniform(0.04, 0.18), opacity=0.8)
    return organ


def abdomen(c: Canvas) -> Array:
    rng = c.rng
    c.value += rng.uniform(0, 0.1)
    fat, wall = rng.uniform(0.1, 0.4), rng.uniform(0.4, 0.6)
    outer = c.blob(0, rng.uniform(0.8, 0.98), rng.uniform(0.55, 0.8), rough=0.03, power=rng.uniform(2, 2.8))
    c.thing(c.paint(outer, fat), "body", opaque=False)
    c.paint(outer - rng.uniform(0.04, 0.15), wall, texture=0.04)
    c.paint(outer - rng.uniform(0.18, 0.24), fat + rng.uniform(0, 0.15), texture=0.06)
    spine = c.blob(rng.uniform(0.3, 0.45) * 1j, 0.15, 0.14, rough=0.06)
    c.thing(c.paint(spine, rng.uniform(0.8, 1.0), texture=0.08), "bones")
    side = rng.choice([-1, 1])
    liver = np.minimum(c.blob(side * 0.38 - 0.1j, 0.45, 0.4, turn=side * 0.4, rough=0.1), outer - 0.17)
    c.thing(c.paint(liver, rng.uniform(0.5, 0.8), texture=rng.uniform(0.01, 0.06)), "large_organ")
    stomach = np.minimum(c.blob(-side * 0.4 - 0.2j, 0.26, 0.18, turn=-side * 0.4, rough=0.12), outer - 0.17)
    c.thing(c.paint(stomach, rng.uniform(0.1, 0.9), texture=0.05), "fluid")
    organs = np.zeros((SIDE_PX, SIDE_PX), bool)
    level = rng.uniform(0.55, 1.0)
    for flank in (-1, 1):
        depth = c.blob(flank * rng.uniform(0.38, 0.5) + 0.27j, rng.uniform(0.1, 0.16),
                       rng.uniform(0.14, 0.22),
                       turn=flank * 0.4, rough=0.08)  # fmt: skip
        mask = c.paint(depth, level, texture=0.04)
        c.thing(mask, "paired_organs")
        organs |= mask
        c.paint(c.blob(flank * 0.36 + 0.27j, 0.05, 0.06), fat)
    for _ in range(rng.integers(2, 8)):
        loop = c.blob(complex(rng.uniform(-0.4, 0.4), rng.uniform(-0.2, 0.2)), *rng.uniform(0.04, 0.1, 2), rough=0.12)
        mask = c.paint(loop, rng.uniform(0.2, 0.9), texture=0.04)
        c.thing(mask)
        organs &= ~mask
    return organs


def cells(c: Canvas) -> Array:
    rng = c.rng
    colour = rng.random() < 0.75
    paper = rng.uniform([0.7, 0.45, 0.6], [0.98, 0.85, 0.95]) if colour else rng.uniform(0.5, 0.9, 1)
    dye = rng.uniform([0.2, 0.1, 0.35], [0.6, 0.45, 0.75]) if colour else rng.uniform(0.05, 0.4, 1)
    c.value = np.repeat(c.value, len(paper), axis=0) + paper[:, None, None].astype(np.float32)
    c.value = c.value + np.float32(rng.uniform(0.02, 0.12)) * c.textures.cut(rng)
    size = rng.uniform(0.045, 0.13)
    nuclei = np.zeros((SIDE_PX, SIDE_PX), bool)
    for index in range(rng.integers(6, 26)):
        centre = complex(*rng.uniform(-1.05, 1.05, 2))
        width, height = size * np.exp(rng.normal(0, 0.2, 2))
        depth = c.blob(centre, width, height, turn=rng.uniform(0, 3.14), rough=0.08)
        mask = c.paint(depth, dye + rng.normal(0, 0.06), texture=rng.uniform(0.0, 0.08), opacity=rng.uniform(0.6, 1.0))
        if index < 8:
            c.thing(mask)
        nuclei |= mask
    c.kinds[KINDS.index("nuclei")] |= nuclei
    return nuclei


def blood(c: Canvas) -> Array:
    """One large stained cell with a nucleus of one to four lobes among pale round cells."""
    rng = c.rng
    colour = rng.random() < 0.9
    paper = rng.uniform([0.75, 0.7, 0.55], [1.0, 0.97, 0.95]) if colour else rng.uniform(0.7, 0.95, 1)
    red = paper * (rng.uniform([0.8, 0.6, 0.55], [1.0, 0.95, 0.95]) if colour else rng.uniform(0.6, 0.9, 1))
    dye = rng.uniform([0.2, 0.05, 0.3], [0.6, 0.45, 0.75]) if colour else rng.uniform(0.05, 0.4, 1)
    c.value = np.repeat(c.value, len(paper), axis=0) + paper[:, None, None].astype(np.float32)
    c.value = c.value + np.float32(rng.uniform(0.01, 0.06)) * c.textures.cut(rng)
    size = rng.uniform(0.25, 0.75)
    for _ in range(rng.integers(0, 9)):
        turned = size * rng.uniform(0.5, 0.9)
        disc = c.blob(complex(*rng.uniform(-1.2, 1.2, 2)), turned, turned * rng.uniform(0.8, 1.0), rough=0.05)
        c.thing(c.paint(disc, red, texture=0.03, opacity=rng.uniform(0.6, 1.0)))
        if rng.random() < 0.5:
            c.paint(disc - 0.5 * turned, paper, opacity=0.5, soft_px=6)
    centre = complex(*rng.normal(0, 0.12, 2))
    cell = c.blob(centre, size, size * rng.uniform(0.8, 1.0), turn=rng.uniform(0, 3.14), rough=0.08)
    body = paper * (1 - rng.uniform(0.1, 0.8) * (1 - dye) * rng.uniform(0.2, 0.7))
    mask = c.paint(cell, body, texture=rng.uniform(0.01, 0.1), soft_px=rng.uniform(1, 3))
    c.thing(mask, "lesion")
    lobes = rng.integers(1, 5)
    nucleus = np.full(cell.shape, -1, np.float32)
    around, turned = rng.uniform(0, 6.28), size * (rng.uniform(0.55, 0.92) if lobes == 1 else rng.uniform(0.25, 0.45))
    for lobe in range(lobes):
        bent = around + lobe * rng.uniform(0.7, 1.8)
        place = centre + (0.15 if lobes == 1 else 0.5) * size * complex(np.cos(bent), np.sin(bent))
        part = c.blob(place, turned, turned * rng.uniform(0.7, 1.0), turn=rng.uniform(0, 3.14), rough=0.1)
        nucleus = np.maximum(nucleus, part)
    c.inner = c.paint(np.minimum(nucleus, cell), dye, texture=rng.uniform(0.02, 0.1), soft_px=rng.uniform(1, 3))
    c.thing(c.inner, "nuclei")
    return mask


def fundus(c: Canvas) -> Array:
    rng = c.rng
    colour = rng.random() < 0.7
    ground = rng.uniform([0.5, 0.15, 0.02], [0.85, 0.45, 0.2]) if colour else rng.uniform(0.3, 0.6, 1)
    c.value = np.repeat(c.value, len(ground), axis=0)
    field_of_view = c.blob(0, 1.0, 1.0, rough=0.0) if rng.random() < 0.5 else np.ones((SIDE_PX, SIDE_PX), np.float32)
    c.thing(c.paint(field_of_view, ground, texture=rng.uniform(0.02, 0.08)), "body", opaque=False)
    centre = complex(*rng.uniform(-0.4, 0.4, 2))
    size = rng.uniform(0.12, 0.5)
    depth = c.blob(centre, size * rng.uniform(0.85, 1.1), size, rough=0.03)
    disc = c.paint(depth, ground + rng.uniform(0.15, 0.45), texture=0.03, opacity=rng.uniform(0.6, 1.0))
    c.thing(disc, "optic_disc")
    cup = c.blob(centre, size * rng.uniform(0.3, 0.7), size * rng.uniform(0.3, 0.7), rough=0.05)
    c.inner = c.paint(np.minimum(cup, depth), ground + rng.uniform(0.4, 0.6), opacity=0.8)
    c.thing(c.inner, opaque=False)
    z = c.plane - np.complex64(centre)
    for _ in range(rng.integers(3, 8)):
        way = z * np.exp(1j * np.float32(rng.uniform(0, 6.28)))
        bent = way.imag + np.float32(rng.normal(0, 0.5)) * way.real**2
        depth = np.where(way.real > 0, rng.uniform(0.012, 0.04) - np.abs(bent), -1).astype(np.float32)
        c.kinds[KINDS.index("vessels")] |= c.paint(depth, ground * rng.uniform(0.4, 0.8), opacity=rng.uniform(0.4, 0.9))
    return disc


def lesion(c: Canvas) -> Array:
    rng = c.rng
    colour = rng.random() < 0.5
    skin = rng.uniform([0.6, 0.4, 0.35], [0.95, 0.75, 0.65]) if colour else rng.uniform(0.2, 0.8, 1)
    c.value = np.repeat(c.value, len(skin), axis=0) + skin[:, None, None].astype(np.float32)
    c.value = c.value + np.float32(rng.uniform(0.03, 0.15)) * c.textures.cut(rng)
    sign = -1 if rng.random() < 0.75 else 1
    size = rng.uniform(0.12, 0.6)
    depth = c.blob(
        complex(*rng.uniform(-0.35, 0.35, 2)),
        size,
        size * rng.uniform(0.6, 1.0),
        turn=rng.uniform(0, 3.14),
        rough=0.13,
    )
    mask = c.paint(depth, skin + sign * rng.uniform(0.15, 0.45), texture=rng.uniform(0.02, 0.15))
    c.thing(mask, "lesion")
    return mask


def shapes(c: Canvas) -> Array:
    rng = c.rng
    c.value += rng.uniform(0, 1)
    c.value = c.value + np.float32(rng.uniform(0, 0.15)) * c.textures.cut(rng)
    for _ in range(rng.integers(3, 10)):
        depth = c.blob(complex(*rng.uniform(-0.9, 0.9, 2)), *rng.uniform(0.06, 0.5, 2),
                       turn=rng.uniform(0, 3.14),
                       rough=rng.uniform(0, 0.15), power=rng.choice([1.2, 2.0, 2.0, 4.0]))  # fmt: skip
        c.thing(c.paint(depth, rng.uniform(0, 1), texture=rng.uniform(0, 0.15)))
    return np.zeros((SIDE_PX, SIDE_PX), bool)


EVALUATED = ("pelvis", "prostate", "chest", "blood", "cells")
"""Layouts like what the benchmark is scored on: prostates, chest X-rays, blood cells, nuclei."""


def shares(index: int, without: Collection[str] = ()) -> list[tuple[Callable[[Canvas], Array], float]]:
    """Return every layout with its share of the pictures: the simple pelvis gives way to the detailed prostate.

    Args:
        index: of the picture. without: layouts that are not drawn; the others have their shares between them.
    """
    pelves = [(pelvis, 0.20)] if index < DETAIL_FROM else [(pelvis, 0.04), (prostate, 0.18)]
    others = [(chest, 0.28), (abdomen, 0.12), (blood, 0.12), (cells, 0.07), (fundus, 0.08), (lesion, 0.06)]
    rest = 1 - sum(share for _, share in (*pelves, *others))
    drawn = [(layout, share) for layout, share in (*pelves, *others, (shapes, rest)) if layout.__name__ not in without]
    whole = sum(share for _, share in drawn) if without else 1.0
    return [(layout, share / whole) for layout, share in drawn]
