"""The card that a case's picture is drawn on: black, one width, a title above the image and a strip of words below.

matplotlib is imported where something is drawn: a site's every process imports its task, and few draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sitelora.tasks.images.hanging import window_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH, PREDICTION = "#7cc8f5", "#ff8a1f"
WORDS, MUTED = "#e4e8ec", "#c9d1d9"
TEXT_PT = 12.0
LONGEST_TITLE = 46
WIDTH_PX, STRIP_PX = 480, 38  # shown at about 270 on a phone: letters of 17 px there are 9


def write_on(axes: Axes, x: float, y: float, words: str, *, ha: str = "left", va: str = "center") -> None:
    """Write on an image, in shares of it, with a dark halo that holds on bright tissue too."""
    from matplotlib.patheffects import Normal, Stroke

    halo = [Stroke(linewidth=1.8, foreground="#000000"), Normal()]
    axes.text(x, y, words, transform=axes.transAxes, color=MUTED, path_effects=halo, ha=ha, va=va)


@contextmanager
def card(
    image: NDArray[np.generic],
    path: Path,
    *,
    title: str,
    window: tuple[float, float] | None = None,
    pixel_mm: Sequence[float] = (1.0, 1.0),
    left_letter: str = "",
) -> Iterator[tuple[Figure, Axes]]:
    """Yield figure and axes with the image drawn, for what belongs on it; write the PNG afterwards.

    Args:
        image: ``[H, W]`` grey or ``[H, W, 3]`` RGB, first axis downwards.
        path: where to write; parent folders are made.
        title: one short line above the picture.
        window: grey values drawn as black and white; ``None`` takes :func:`window_of` the image.
        pixel_mm: height and width of a pixel, for the true proportions.
        left_letter: side of the body at the left edge, ``R`` in radiological display.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = image.shape[:2]
    height_px = round(WIDTH_PX * rows * float(pixel_mm[0]) / (columns * float(pixel_mm[1])))
    height_px = min(max(height_px, WIDTH_PX // 4), WIDTH_PX * 2)
    total_px = height_px + 2 * STRIP_PX
    with matplotlib.rc_context({"text.parse_math": False, "font.size": TEXT_PT}):
        figure = Figure(figsize=(WIDTH_PX / 100, total_px / 100), dpi=100, facecolor="black")
        axes = figure.add_axes((0, STRIP_PX / total_px, 1, height_px / total_px))
        axes.set_axis_off()
        aspect = float(pixel_mm[0]) / float(pixel_mm[1])
        low, high = window or window_of(image)
        shown = np.clip((image.astype(np.float64) - low) / max(high - low, 1e-12), 0.0, 1.0)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="bilinear")
        if left_letter:
            write_on(axes, 0.015, 0.5, left_letter)
        shown_title = title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1].rstrip()}…"
        figure.text(0.02, 1 - STRIP_PX / total_px / 2, shown_title, color=WORDS, va="center", ha="left")
        yield figure, axes
        path.parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=100, facecolor="black", metadata={"Software": None})
