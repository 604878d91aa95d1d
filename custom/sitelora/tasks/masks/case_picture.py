"""From a case in its native space to its picture: one slice, hung as radiologists do, the window of the case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sitelora.tasks.images.hanging import radiological, window_of
from sitelora.tasks.masks.overlays import best_slice, draw_overlay


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
