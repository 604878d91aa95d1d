"""From a case in its native space to its picture: one slice, hung as radiologists do, the window of the case.

Radiological display: the patient's right at the left edge, anterior (or superior) at the top. Oblique volumes
are turned to the nearest of these; nothing is resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from sitelora.tasks.masks.overlays import best_slice, draw_overlay, window_of

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class Hanging:
    """How a slice ``[X, Y]`` of a volume becomes rows and columns of a picture."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool
    left_letter: str

    def hang(self, plane: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the slice with its first axis downwards and its second to the right."""
        plane = plane.T if self.transpose else plane
        return plane[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def radiological(affine: NDArray[np.floating]) -> Hanging:
    """Return the hanging of slices along the last axis.

    Args:
        affine: voxel to RAS+ mm, ``[4, 4]``.
    """
    first, second = aff2axcodes(affine)[:2]  # the direction in which each axis grows, as R, L, A, P, S or I
    transpose = second in "SI" or (second in "AP" and first not in "SI")
    down, right = (second, first) if transpose else (first, second)
    flip_rows, flip_columns = down in "AS", right in "RA"
    return Hanging(
        transpose=transpose,
        flip_rows=flip_rows,
        flip_columns=flip_columns,
        left_letter="R" if right in "RL" else "A",
    )


def draw_case(
    image: NDArray[np.generic],
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    path: Path,
    *,
    title: str,
    labels: Mapping[int, str] | None = None,
    spacing_mm: Sequence[float] | None = None,
    affine: NDArray[np.floating] | None = None,
) -> None:
    """Draw one case: the slice of a volume with the largest area of truth, or a picture as it is.

    Args:
        image: ``[H, W, N]`` with volumes; ``[H, W]`` or RGB ``[H, W, 3]`` with pictures.
        truth: label values ``[H, W, N]`` or ``[H, W]``.
        prediction: label values, shape of ``truth``.
        path: where to write the PNG.
        title: one short line; the slice's number is added.
        labels: label value to name.
        spacing_mm: size of a voxel along every axis.
        affine: voxel to RAS+ mm ``[4, 4]`` of a volume; ``None`` keeps the axes, the first one downwards.
            MONAI reads a PNG with the first axis to the right: transpose image and masks before.

    Raises:
        ValueError: the arrays do not belong together.
    """
    window = window_of(image)
    pixel_mm = tuple(spacing_mm or (1.0, 1.0))[:2]
    letter = ""
    if truth.ndim == 3:
        if image.shape != truth.shape or prediction.shape != truth.shape:
            raise ValueError(
                f"image {image.shape}, truth {truth.shape} and prediction {prediction.shape} differ, "
                "expected one shape [H, W, N]: draw all three in the native space of the image"
            )
        index = best_slice(truth, prediction)
        title = f"{title} · slice {index + 1} of {truth.shape[2]}"
        image, truth, prediction = image[..., index], truth[..., index], prediction[..., index]
        if affine is not None:
            hanging = radiological(affine)
            image, truth, prediction = hanging.hang(image), hanging.hang(truth), hanging.hang(prediction)
            pixel_mm = pixel_mm[::-1] if hanging.transpose else pixel_mm
            letter = hanging.left_letter
    draw_overlay(
        image,
        truth,
        prediction,
        path,
        title=title,
        window=window,
        labels=labels,
        pixel_mm=pixel_mm,
        left_letter=letter,
    )
