"""A case as a picture: image, truth and prediction as outlines, in physical proportions (nnU-Net's habit).

Truth is a thick light-blue line and the prediction a thin orange one on top (Okabe and Ito's palette), both
with a dark halo so that they hold on grey MRI and on stained tissue. Classes differ by line style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from sitelora.task import LegendLine
from sitelora.tasks.images.card import MUTED, PREDICTION, TEXT_PT, TRUTH, WIDTH_PX, card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LineStyle = tuple[float, tuple[float, ...]]
LINE_STYLES: tuple[LineStyle, ...] = ((0, ()), (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (4, 1.4, 1.2, 1.4)))


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
        window: grey values drawn as black and white; ``None`` takes those of the image.
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
    values = sorted(labels or {int(v) for v in np.unique([truth, prediction])})
    classes = [value for value in values if value != 0]
    with card(image, path, title=title, window=window, pixel_mm=pixel_mm, left_letter=left_letter) as (figure, axes):
        for place, value in enumerate(classes):
            style = LINE_STYLES[place % len(LINE_STYLES)]
            _outline(axes, _region(truth, value), TRUTH, width=3.0, style=style)
            _outline(axes, _region(prediction, value), PREDICTION, width=2.0, style=style)
        _legend(figure, {value: (labels or {}).get(value, str(value)) for value in classes})


def legend(class_names: Sequence[str]) -> list[LegendLine]:
    """Return what the lines stand for; the kind of line says the class, where there are several."""
    lines = [LegendLine("Truth (thick)", TRUTH, 3.5), LegendLine("Prediction (thin)", PREDICTION, 2.2)]
    for place, name in enumerate(class_names):
        lines.append(LegendLine(name, MUTED, 2.2, LINE_STYLES[place % len(LINE_STYLES)][1]))
    return lines


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
    from matplotlib.patheffects import Normal, Stroke
    from skimage.measure import find_contours

    if not mask.any():
        return
    halo = [Stroke(linewidth=width + 1.4, foreground="#000000", alpha=0.4), Normal()]
    for line in find_contours(np.pad(mask.astype(np.float64), 1), 0.5):
        axes.plot(line[:, 1] - 1, line[:, 0] - 1, color=colour, linewidth=width, linestyle=style, path_effects=halo)


def _legend(figure: Figure, classes: Mapping[int, str]) -> None:
    """Say below the picture which line is which."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

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
