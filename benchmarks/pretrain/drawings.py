"""Procedural drawings for pre-training sam_tiny; every picture is a function of (seed, index)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import layouts
import numpy as np
from canvas import KINDS, SIDE_PX, Array, Canvas, Textures

__all__ = ["KINDS", "SIDE_PX", "Drawing", "Textures", "draw"]


@dataclass(frozen=True)
class Drawing:
    """One picture and what is known about it."""

    image: Array  # [3, 128, 128] float32, unclipped
    principal: Array  # [128, 128] bool: what a picture of this layout is usually segmented for
    has_principal: bool
    inner: Array  # [128, 128] bool: the part of it that a second class names; empty where has_inner is false
    has_inner: bool
    kinds: Array  # [14, 128, 128] bool
    objects: Array  # [n, 128, 128] bool: single visible things, for prompts


def draw(seed: int, index: int, textures: Textures, without: Collection[str] = ()) -> Drawing:
    """Return the picture of ``index``: the layout, then bias field, grain, inversion and flips.

    Args:
        without: layouts that are not drawn.
    """
    rng = np.random.default_rng([seed, 2, index])
    canvas = Canvas(rng=rng, textures=textures)
    choices = layouts.shares(index, without)
    layout = choices[rng.choice(len(choices), p=[share for _, share in choices])][0]
    principal = layout(canvas)
    value = canvas.value
    if rng.random() < 0.7:  # bias field
        tilt = rng.normal(0, 0.25) * canvas.plane.real + rng.normal(0, 0.25) * canvas.plane.imag
        bump = (
            rng.normal(0, 0.2)
            * np.cos(rng.uniform(1, 3) * canvas.plane.real + rng.uniform(0, 6))
            * np.cos(rng.uniform(1, 3) * canvas.plane.imag + rng.uniform(0, 6))
        )
        value = value * np.exp(tilt + bump).astype(np.float32)
    if rng.random() < 0.5:
        value = value + np.float32(rng.uniform(0.0, 0.08)) * textures.cut(rng)
    if rng.random() < 0.12:
        value = value.max() - value
    inner = np.zeros_like(principal) if canvas.inner is None else canvas.inner & principal
    masks = [principal[None], inner[None], canvas.kinds, *(mask[None] for mask in canvas.objects)]
    stacked = np.concatenate(masks)
    if rng.random() < 0.5:
        value, stacked = value[..., ::-1], stacked[..., ::-1]
    if rng.random() < 0.08:
        value, stacked = value[:, ::-1], stacked[:, ::-1]
    objects = stacked[2 + len(KINDS) :]
    visible = objects.sum(axis=(1, 2)) >= 24
    image = np.broadcast_to(value, (3, SIDE_PX, SIDE_PX)).astype(np.float32)
    return Drawing(
        image,
        stacked[0].copy(),
        layout is not layouts.shapes,
        stacked[1].copy(),
        canvas.inner is not None,
        stacked[2 : 2 + len(KINDS)].copy(),
        objects[visible],
    )
