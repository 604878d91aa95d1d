"""A case as a picture: image, truth and prediction as outlines, in physical proportions (nnU-Net's habit).

Truth is a thick light-blue line and the prediction a thin orange one on top (Okabe and Ito's palette), both
with a dark halo so that they hold on grey MRI and on stained tissue. Classes differ by line style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from skimage.measure import find_contours

TRUTH, PREDICTION = "#7cc8f5", "#ff8a1f"
TEXT_PT = 12.0
LineStyle = tuple[float, tuple[float, ...]]
LINE_STYLES: tuple[LineStyle, ...] = ((0, ()), (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (4, 1.4, 1.2, 1.4)))
LONGEST_TITLE = 46
WIDTH_PX, STRIP_PX = 480, 38  # shown at about 270 on a phone: letters of 17 px there are 9


def draw_overlay(
    image: NDArray[np.generic],
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    path: Path,
    *,
    title: str,
    window: tuple[float, float] | None = None,
    labels: Mapping[int, str] | None = None,
    pixel_mm: Sequence[float] = (1.0, 1.0),
    left_letter: str = "",
) -> None:
    """Write one PNG.

    Args:
        image: ``[H, W]`` grey or ``[H, W, 3]`` RGB, first axis downwards.
        truth: label values ``[H, W]``, 0 is background.
        prediction: label values ``[H, W]``.
        path: where to write; parent folders are made.
        title: one short line above the picture.
        window: grey values drawn as black and white; ``None`` takes :func:`window_of` the image.
        labels: label value to name; ``None`` outlines every value there is.
        pixel_mm: height and width of a pixel, for the true proportions.
        left_letter: side of the body at the left edge, ``R`` in radiological display.

    Raises:
        ValueError: the three arrays do not show the same pixels.
    """
    if truth.shape != prediction.shape or image.shape[:2] != truth.shape or image.ndim not in (2, 3):
        raise ValueError(
            f"image {image.shape}, truth {truth.shape} and prediction {prediction.shape} differ, expected "
            "[H, W] (the image may be [H, W, 3]): pass the same slice of all three"
        )
    rows, columns = truth.shape
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
        values = sorted(labels or {int(v) for v in np.unique([truth, prediction])})
        classes = [value for value in values if value != 0]
        for place, value in enumerate(classes):
            style = LINE_STYLES[place % len(LINE_STYLES)]
            _outline(axes, _region(truth, value), TRUTH, width=3.0, style=style)
            _outline(axes, _region(prediction, value), PREDICTION, width=2.0, style=style)
        if left_letter:
            axes.text(0.015, 0.5, left_letter, transform=axes.transAxes, color="#c9d1d9", va="center")
        shown_title = title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1].rstrip()}…"
        figure.text(0.02, 1 - STRIP_PX / total_px / 2, shown_title, color="#e4e8ec", va="center", ha="left")
        _legend(figure, {value: (labels or {}).get(value, str(value)) for value in classes})
        path.parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=100, facecolor="black", metadata={"Software": None})


def window_of(image: NDArray[np.generic]) -> tuple[float, float]:
    """Return the grey values to show as black and white: 0 to 255 for bytes, else percentiles 0.5 and 99.5.

    Call it with the whole volume, so that every slice of a case has the same contrast.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    low, high = np.percentile(image[np.isfinite(image)], [0.5, 99.5]) if np.isfinite(image).any() else (0, 1)
    return float(low), float(high)


def best_slice(truth: NDArray[np.integer], prediction: NDArray[np.integer]) -> int:
    """Return the slice of ``[H, W, N]`` with the largest area of truth (any label; the first such slice).

    Without any truth it is the slice with the largest prediction, and the middle one without either.
    """
    for mask in (truth, prediction):
        area = (mask != 0).sum(axis=(0, 1))
        if area.any():
            return int(area.argmax())
    return truth.shape[2] // 2


def _region(labels: NDArray[np.integer], value: int) -> NDArray[np.bool_]:
    """Return a class with the other classes inside it, so that a tumour's dashes are not over the organ's line."""
    mask = labels == value
    return mask | (binary_fill_holes(mask) & (labels != 0))


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, *, width: float, style: LineStyle) -> None:
    """Draw the border of a mask, closed also where it touches the picture's edge."""
    if not mask.any():
        return
    halo = [Stroke(linewidth=width + 1.4, foreground="#000000", alpha=0.4), Normal()]
    for line in find_contours(np.pad(mask.astype(np.float64), 1), 0.5):
        axes.plot(line[:, 1] - 1, line[:, 0] - 1, color=colour, linewidth=width, linestyle=style, path_effects=halo)


def _legend(figure: Figure, classes: Mapping[int, str]) -> None:
    """Say below the picture which line is which."""
    handles = [
        Line2D([], [], color=TRUTH, linewidth=3.0, label="Truth"),
        Line2D([], [], color=PREDICTION, linewidth=2.0, label="Prediction"),
    ]
    if len(classes) > 1:
        for place, name in enumerate(classes.values()):
            style = LINE_STYLES[place % len(LINE_STYLES)]
            handles.append(Line2D([], [], color="#c9d1d9", linewidth=1.4, linestyle=style, label=name))
    legend = figure.legend(
        handles=handles,
        loc="lower left",
        ncols=len(handles),
        frameon=False,
        labelcolor="#c9d1d9",
        fontsize=TEXT_PT,
        borderaxespad=0.3,
        borderpad=0.25,
        handlelength=1.7,
        handletextpad=0.5,
        columnspacing=1.1,
    )
    width_px = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width
    if width_px > WIDTH_PX:  # many classes or long names
        for words in legend.get_texts():
            words.set_fontsize(max(TEXT_PT * 0.95 * WIDTH_PX / width_px, 6.0))
