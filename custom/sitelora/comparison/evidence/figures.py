"""The plots of an experiment: differences to being alone with their intervals, and the score over an axis of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from sitelora.comparison.evidence.estimate import Estimate
from sitelora.comparison.figures import look
from sitelora.report.style import HOUSE_STYLE, png_bytes


def forest(differences: Sequence[tuple[str, str, Estimate]], *, score: str, against: str) -> bytes:
    """Return a PNG: one line a difference with its 95 % interval, cells apart, a line at nothing.

    Args:
        differences: cell, row and difference. score: what it is of. against: the row that was taken off.
    """
    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(7.4, 0.9 + 0.26 * len(differences)), layout="constrained")
        axes = figure.subplots()
        places = range(len(differences), 0, -1)
        cells = list(dict.fromkeys(cell for cell, _, _ in differences))
        for place, (cell, _, one) in zip(places, differences, strict=True):
            colour = look(cells.index(cell))["color"]
            low, high = one.interval() or (one.mean, one.mean)
            axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
            axes.plot([one.mean], [place], marker="o", color=colour, markersize=5)
        axes.axvline(0, color="#3b3f45", linewidth=0.9)
        axes.set_yticks(list(places), [f"{cell}: {row}" for cell, row, _ in differences])
        axes.set_xlabel(f"difference in {score} to {against}, 95 % interval over patients and seeds")
        return png_bytes(figure)


def curve(lines: Mapping[str, Mapping[float, Estimate]], *, axis: str, score: str) -> bytes:
    """Return a PNG: the score of every row over the cells' axis, with intervals.

    Args:
        lines: by row, the estimate at every place of the axis. axis: what it counts. score: what it is of.
    """
    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(7.4, 4.4), layout="constrained")
        axes = figure.subplots()
        ticks = sorted({at for line in lines.values() for at in line})
        for number, (row, line) in enumerate(lines.items()):
            at = sorted(line)
            shift = 1 + 0.015 * (number - len(lines) / 2)  # so that intervals do not lie on each other
            means = [line[place].mean for place in at]
            reach = [(line[p].interval() or (line[p].mean,) * 2) for p in at]
            bars = [
                [mean - low for mean, (low, _) in zip(means, reach, strict=True)],
                [high - mean for mean, (_, high) in zip(means, reach, strict=True)],
            ]
            shifted = [place * shift for place in at]
            axes.errorbar(shifted, means, yerr=bars, label=row, markersize=5, **look(number))
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.minorticks_off()
        axes.set_xlabel(axis)
        axes.set_ylabel(f"{score}, 95 % interval")
        figure.legend(loc="outside right upper", frameon=False)
        return png_bytes(figure)
