"""The patch that an answer hangs on is the one that is found and coloured, in pictures and in stacks of two phases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sitelora.tasks.classes.occlusion import GRID, draw_occlusion, occluded

WHERE = (1, 4)
"""Row and column of the only bright patch."""


def image(*tail: int) -> Tensor:
    """Dark but for one patch of the grid, 7 x 5 pixels each."""
    pixels = torch.zeros(2, 7 * GRID, 5 * GRID, *tail)
    pixels[:, 7 * WHERE[0] : 7 * (WHERE[0] + 1), 5 * WHERE[1] : 5 * (WHERE[1] + 1)] = 1.0
    return pixels


def brightness(pixels: Tensor) -> Tensor:
    """Logits of an answer that is the surer of the second class the brighter the brightest pixel is."""
    brightest = pixels.flatten(1).max(dim=1).values
    return torch.stack([torch.zeros_like(brightest), 4 * brightest - 2], dim=1)


@pytest.mark.parametrize("tail", [(), (3,)])
def test_the_patch_that_counts_is_found(tail: tuple[int, ...]) -> None:
    before = image(*tail)
    chosen, falls = occluded(brightness, before)
    assert chosen == 1
    assert falls.argmax() == WHERE[0] * GRID + WHERE[1]
    assert falls[WHERE] > 0.5
    assert np.delete(falls.ravel(), falls.argmax()) == pytest.approx(0)
    assert torch.equal(before, image(*tail)), "nothing of the image itself is changed"


@pytest.mark.parametrize("tail", [(), (3,)])
def test_it_is_coloured_where_it_lies(tmp_path: Path, tail: tuple[int, ...]) -> None:
    affine = np.diag([-1.0, -1.0, 8.0, 1.0]) if tail else None
    for name, answer in (("counts", brightness), ("nothing", lambda pixels: torch.ones(len(pixels), 2))):
        draw_occlusion(answer, image(*tail), tmp_path / f"{name}.png", names=("a", "b"), title="x", affine=affine)
    drawn = {path.stem: np.asarray(Image.open(path).convert("RGB")).astype(int) for path in tmp_path.glob("*.png")}
    coloured = {name: np.ptp(pixels[38:-38], axis=2) > 60 for name, pixels in drawn.items()}
    assert not coloured["nothing"].any()
    rows, columns = np.nonzero(coloured["counts"])
    height, width = coloured["counts"].shape
    place = WHERE if not tail else WHERE[::-1]  # a volume's first axis runs to the right
    assert rows.mean() / height == pytest.approx((place[0] + 0.5) / GRID, abs=0.03)
    phases = 2 if tail else 1
    first = columns[columns < width / phases]
    assert first.mean() / (width / phases) == pytest.approx((place[1] + 0.5) / GRID, abs=0.03)
    assert (columns.max() > width / 2) == (phases == 2 or place[1] >= GRID / 2)
