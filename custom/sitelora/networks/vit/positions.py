"""Where a token lies: sines and cosines of its place along every axis (Vaswani et al. 2017; CineMA's arrangement)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LONGEST = 10_000


def sines(grid: tuple[int, ...], width: int) -> Tensor:
    """Return ``[1, N, d]`` for the places of a grid, the last axis running fastest.

    Every axis gets an equal and even share of d, sines before cosines; what is left over is zero. The columns come
    first, then the rows, then the slices, as CineMA's table has it: its files were trained with that.
    """
    share = width // len(grid) // 2 * 2
    rates = _LONGEST ** -(torch.arange(share // 2, device="cpu") / (share // 2))
    places = torch.meshgrid(*(torch.arange(float(size), device="cpu") for size in grid), indexing="ij")
    first, second, *others = places
    angles = [axis.flatten()[:, None] * rates for axis in (second, first, *others)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return F.pad(table, (0, width - table.shape[1]))[None]


def resized(table: Tensor, side: int) -> Tensor:
    """Return a learned table of a square picture ``[1, 1 + n * n, d]`` for another side, as timm does it.

    The row of the class token, the first, stays.
    """
    token, places = table[:, :1], table[:, 1:]
    old = round(places.shape[1] ** 0.5)
    grid = places.unflatten(1, (old, old)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    return torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)
