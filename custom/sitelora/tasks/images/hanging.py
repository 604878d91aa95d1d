"""How an image is shown: hung as radiologists do, with the window of the whole case.

Radiological display: the patient's right at the left edge, anterior (or superior) at the top. Oblique volumes
are turned to the nearest of these; nothing is resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

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


def window_of(image: NDArray[np.generic]) -> tuple[float, float]:
    """Return the grey values to show as black and white: 0 to 255 for bytes, else percentiles 0.5 and 99.5.

    Call it with the whole volume, so that every slice of a case has the same contrast.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    low, high = np.percentile(image[np.isfinite(image)], [0.5, 99.5]) if np.isfinite(image).any() else (0, 1)
    return float(low), float(high)
