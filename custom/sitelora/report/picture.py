"""One wide picture of a run for a README: overlays of up to three sites, the score by round and its mean at the end.

1600 x 700 px on white, drawn so that every letter is still read at half that width.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sitelora.report.costs import full_model_bytes, ratio_text
from sitelora.report.figures import MOST_MARKERS, heights, score_limits
from sitelora.report.findings import mean_score, mean_text, outlines, upload_per_round
from sitelora.report.format_values import bytes_text, count_text, shortened
from sitelora.report.overlay_image import overlay_image
from sitelora.report.results import Overlay, ReportError, Run, mean
from sitelora.report.style import HOUSE_STYLE, ROUND_CURVES, TONES, model_style, png_bytes
from sitelora.tasks.images.card import PREDICTION, STRIP_PX, TRUTH

WIDTH_PX, HEIGHT_PX, DPI = 1600, 700, 100
SITES, LONG_TITLE = 3, 30
INK, MUTED = TONES["ink"].light, TONES["muted"].light


def demo_picture(run: Run) -> bytes:
    """Return the picture as PNG.

    Raises:
        ReportError: the run holds nothing that could be drawn.
    """
    tiles = [(site, chosen) for site in run.sites if (chosen := _median(run.overlays.get(site, ())))][:SITES]
    bars = [m for m in ("base", run.beside, "global", "personal") if m and mean_score(run, m) is not None]
    if not tiles and not bars and not run.rounds:
        raise ReportError("the run holds neither overlays nor scores nor rounds: picture a run that has finished")
    with matplotlib.rc_context(
        {**HOUSE_STYLE, "font.size": 17, "axes.labelsize": 17, "xtick.labelsize": 16, "ytick.labelsize": 16}
    ):
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor="white")
        figure.text(0.02, 0.95, _title(run), fontsize=24, fontweight="bold", va="center", color=INK)
        figure.text(0.02, 0.885, shortened(_subtitle(run), 118), fontsize=17, va="center", color=MUTED)
        left = 0.58 if tiles else 0.02
        _draw_tiles(figure, run, tiles, right=left)
        _draw_rounds(figure.add_axes((left + 0.085, 0.43, 0.895 - left, 0.335)), run)
        _draw_bars(figure.add_axes((left + 0.085, 0.075, 0.895 - left, 0.2)), run, bars)
        return png_bytes(figure, dpi=DPI)


def _title(run: Run) -> str:
    model = "personal" if mean_score(run, "personal") is not None else "global"
    value = mean_score(run, model)
    told = f"{count_text(len(run.sites), 'site')}, {count_text(run.result.rounds_done, 'round')}, no picture shared"
    return told if value is None else f"{told}: mean {run.primary.title} {run.primary.text(value, fewer=1)}"


def _subtitle(run: Run) -> str:
    """Say with what it was made and what a site sent."""
    sent, full = upload_per_round(run), full_model_bytes(run)
    method, dataset = run.result.method, run.result.dataset
    parts = [f"method {method}"] * bool(method)
    parts += [f"data {dataset}{' (artificial)' if run.artificial else ''}"] * bool(dataset)
    if sent is not None:
        share = f", {ratio_text(full / sent)} of full fine-tuning" if full else ""
        parts += [f"a site sends {bytes_text(sent)} a round{share}"]
    return " · ".join(part for part in parts if part)


def _median(overlays: Sequence[Overlay]) -> Overlay | None:
    """Return the picture of a site's median case, else its first."""
    return next((each for each in overlays if each.which == "median"), overlays[0] if overlays else None)


def _draw_tiles(figure: Figure, run: Run, tiles: Sequence[tuple[str, Overlay]], *, right: float) -> None:
    """Draw the overlays side by side, each cut around its outlines to the shape of its place, or whole without any."""
    if not tiles:
        return
    start, gap, low, high = 0.02, 0.012, 0.115, 0.71
    width = (right - start - gap * (len(tiles) - 1)) / len(tiles)
    aspect = width * WIDTH_PX / ((high - low) * HEIGHT_PX)
    lines = outlines(run)
    for place, (site, overlay) in enumerate(tiles):
        x = start + place * (width + gap)
        axes = figure.add_axes((x, low, width, high - low))
        if lines:
            axes.imshow(cut_around_outlines(_pixels(overlay), aspect), interpolation="lanczos", aspect="auto")
        else:
            axes.imshow(overlay_image(overlay).convert("RGB"), interpolation="lanczos")
            axes.set_anchor("N")
        axes.set_axis_off()
        score = "" if overlay.score is None else f"  {run.primary.title} {run.primary.text(overlay.score, fewer=1)}"
        figure.text(x, 0.795, f"{shortened(site, 16)}{score}", fontsize=18, fontweight="bold", va="center", color=INK)
        letters = int(width * WIDTH_PX / 10.8)
        hospital = shortened(run.hospital(site) or f"{overlay.which} test case".lstrip(), letters)
        figure.text(x, 0.745, hospital, fontsize=14, va="center", color=MUTED)
    handles = [
        Line2D(
            [],
            [],
            color=MUTED if line.dashes is not None else line.colour,  # a class's lines have either colour
            linewidth=2.5 if line.dashes is not None else 1.5 * line.width,
            linestyle=(0, line.dashes) if line.dashes else "-",
            label=shortened(line.words if line.dashes is not None else line.words.partition(" (")[0].lower(), 14),
        )
        for line in lines[:5]
    ]
    if handles:
        corner = (start - 0.004, 0.025)
        figure.legend(handles=handles, loc=corner, ncols=len(handles), frameon=False, fontsize=16, labelcolor=INK)
    words = "median test case of each site" if lines else "a certain mistake at each site"
    if len(handles) < 3:
        figure.text(right, 0.06, words, fontsize=15, ha="right", va="center", color=MUTED)


def _draw_rounds(axes: Axes, run: Run) -> None:
    """Draw every site's validation score by round as a thin line, the mean over sites as a thick one."""
    axes.patch.set_alpha(0.0)
    title = f"Validation {run.primary.title} by round"
    axes.set_title(title, loc="left", fontsize=_title_size(title), fontweight="bold", pad=14, color=INK)
    numbers = [each.counted for each in run.rounds]
    words = {
        "score_received": "received, before training",
        "score_personal": "freshly trained",
        "score_served": "served",
    }
    for metric in ROUND_CURVES:
        look = model_style(ROUND_CURVES[metric])
        lines = [run.course(site, metric) for site in run.sites]
        means = [mean(values) for values in zip(*lines, strict=True)]
        if all(value is None for value in means):
            continue
        if metric == "score_served":  # a wide band that the others run over; its sites follow theirs
            axes.plot(numbers, heights(means), color=look.colour, linewidth=11, alpha=0.35, label=words[metric])
            continue
        for values in lines:
            axes.plot(numbers, heights(values), color=look.colour, linewidth=1.3, alpha=0.35)
        shown = look.marker if len(numbers) <= MOST_MARKERS else None
        axes.plot(numbers, heights(means), color=look.colour, linewidth=3.6, marker=shown, ms=9, label=words[metric])
    if len(run.sites) > 1 and len(title) < LONG_TITLE:
        axes.set_title("thin: each site", loc="right", fontsize=14, pad=14, color=MUTED)
    low, high = score_limits(run)
    axes.set(ylim=(low, high), yticks=[low, (low + high) / 2, high])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.grid(axis="x", visible=False)
    if run.rounds:
        axes.legend(
            loc="lower right",
            frameon=False,
            fontsize=14,
            labelcolor=INK,
            handlelength=1.6,
            labelspacing=0.2,
            borderaxespad=0.0,
            borderpad=0.1,
        )


def _draw_bars(axes: Axes, run: Run, bars: Sequence[str]) -> None:
    """Draw one bar a model: its mean score over sites on test data."""
    axes.patch.set_alpha(0.0)
    title = f"Mean {run.primary.title} on test data"
    axes.set_title(title, loc="left", fontsize=_title_size(title), fontweight="bold", pad=12, color=INK)
    for row, model in enumerate(bars):
        value = mean_score(run, model) or 0.0
        axes.barh(row, value, 0.66, color=model_style(model).colour)
        axes.annotate(mean_text(run, model), (value, row), (8, 0), textcoords="offset points", va="center", color=INK)
    low, high = run.primary.limits([mean_score(run, model) or 0.0 for model in bars])
    axes.set(xlim=(low, low + 1.14 * (high - low)), ylim=(len(bars) - 0.45, -0.55), xticks=[])
    axes.set_yticks(range(len(bars)), [shortened(model, 12) for model in bars], fontsize=17, color=INK)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)


def _title_size(title: str) -> float:
    """Return the size of letters at which a title is no wider than its plot."""
    return 18 * min(1.0, LONG_TITLE / len(title))


def cut_around_outlines(pixels: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Return the part of an overlay around its outlines, as wide as ``aspect`` times its height.

    Args:
        pixels: an overlay without its strips, RGB ``[H, W, 3]``.
        aspect: width over height of the part.
    """
    rows, columns = pixels.shape[:2]
    near = np.zeros((rows, columns), bool)
    for colour in (TRUTH, PREDICTION):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        near |= np.abs(pixels.astype(int) - wanted).max(axis=2) < 24
    where = np.argwhere(near) if near.sum() > 20 else np.array([[0, 0], [rows - 1, columns - 1]])
    low, high = where.min(axis=0), where.max(axis=0) + 1
    height = max(1.9 * (high[0] - low[0]), 1.5 * (high[1] - low[1]) / aspect, 0.45 * rows)
    height = min(height, float(rows), columns / aspect)
    width = height * aspect
    middle = (low + high) / 2
    top = round(float(min(max(middle[0] - height / 2, 0), rows - height)))
    left = round(float(min(max(middle[1] - width / 2, 0), columns - width)))
    return pixels[top : top + max(1, round(height)), left : left + max(1, round(width))]


def _pixels(overlay: Overlay) -> NDArray[np.uint8]:
    """Return an overlay without its strips of words, ``[H, W, 3]``."""
    pixels = np.asarray(overlay_image(overlay).convert("RGB"))
    return pixels[STRIP_PX:-STRIP_PX] if pixels.shape[0] > 4 * STRIP_PX else pixels
