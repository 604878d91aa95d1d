"""What of an image speaks for an answer: how its probability falls where a patch is covered (Zeiler and Fergus 2014).

A grid of patches in the plane, through all slices and both phases, each in turn set to the image's mean. Attention maps
would say what a block looks at, and not what the answer hangs on; a covered patch asks the network itself (our choice).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sitelora.tasks.images.card import PREDICTION, STRIP_PX, TEXT_PT, TRUTH, card
from sitelora.tasks.images.hanging import radiological

GRID = 6
"""Patches along each side: an answer is asked for 36 times more."""
AT_ONCE = 6
FAINT = 0.02
"""A largest change of probability below which nothing is coloured: then no patch counts."""


def occluded(answer: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[int, NDArray[np.float64]]:
    """Return the likeliest class and by how much its probability falls without each patch, ``[GRID, GRID]``.

    Args:
        answer: from images ``[B, C, X, Y]`` or ``[B, C, X, Y, Z]`` to logits ``[B, K]``. pixels: one image.
    """
    rows, columns = (np.linspace(0, size, GRID + 1).round().astype(int) for size in pixels.shape[1:3])
    covered = []
    for row in range(GRID):
        for column in range(GRID):
            each = pixels.clone()
            part = each[:, rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
            part[...] = pixels.flatten(1).mean(1).reshape(-1, *[1] * (pixels.ndim - 1))
            covered.append(each)
    with torch.no_grad():
        whole = answer(pixels[None]).float().softmax(dim=1)[0]
        chosen = int(whole.argmax())
        parts = [answer(torch.stack(covered[at : at + AT_ONCE])) for at in range(0, len(covered), AT_ONCE)]
        without = torch.cat(parts).float().softmax(dim=1)[:, chosen]
    falls = (whole[chosen] - without).cpu().numpy().astype(np.float64)
    return chosen, falls.reshape(GRID, GRID)


def draw_occlusion(
    answer: Callable[[Tensor], Tensor],
    pixels: Tensor,
    file: Path,
    *,
    names: tuple[str, ...],
    title: str,
    affine: NDArray[np.floating] | None,
) -> None:
    """Write one PNG: the image as the network is given it, and over it what speaks for the likeliest class.

    Args:
        answer, pixels: as for `occluded`. file: to write. names: of the classes. title: one short line.
        affine: of a volume, for the same hanging as its other picture; None of a picture.
    """
    from matplotlib.colors import LinearSegmentedColormap

    heat_map = LinearSegmentedColormap.from_list("speaks", [TRUTH, PREDICTION])  # against the answer, and for it
    chosen, falls = occluded(answer, pixels)
    rows, columns = pixels.shape[1:3]
    places = (
        np.minimum(np.arange(rows) * GRID // rows, GRID - 1),
        np.minimum(np.arange(columns) * GRID // columns, GRID - 1),
    )
    heat = falls[np.ix_(*places)]
    planes = [channel.cpu().numpy() for channel in (pixels if pixels.ndim == 3 else pixels[..., pixels.shape[-1] // 2])]
    if affine is not None:
        hanging = radiological(affine)
        heat, planes = hanging.hang(heat), [hanging.hang(plane) for plane in planes]
    else:
        planes = [np.mean(planes, axis=0)]
    strongest = float(np.abs(heat).max())
    with card(np.concatenate(planes, axis=1), file, title=title, window=(0.0, 1.0)) as (figure, axes):
        for place in range(len(planes) if strongest >= FAINT else 0):
            axes.imshow(
                (heat / strongest + 1) / 2,
                cmap=heat_map,
                vmin=0,
                vmax=1,
                alpha=0.55 * np.abs(heat) / strongest,
                extent=(place * heat.shape[1] - 0.5, (place + 1) * heat.shape[1] - 0.5, heat.shape[0] - 0.5, -0.5),
            )
        axes.set_xlim(-0.5, len(planes) * heat.shape[1] - 0.5)
        height = STRIP_PX / (figure.get_figheight() * 100) / 2
        told = f"Without the strongest patch: {names[chosen]} {-falls.flat[np.abs(falls).argmax()]:+.2f}"
        words = told if strongest >= FAINT else "No patch counts for much by itself"
        figure.text(0.02, height, words, color=PREDICTION, fontsize=TEXT_PT, va="center", ha="left")
