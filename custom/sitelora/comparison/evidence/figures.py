"""The plots of an experiment: differences with their intervals, the score over an axis of cells, and over two knobs."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from sitelora.comparison.evidence.estimate import Estimate
from sitelora.comparison.figures import COLOURS, look
from sitelora.report.style import HOUSE_STYLE, png_bytes

LINE_IN, HEAD_LINES = 0.19, 1.25
"""Height of a line of a forest plot in inches; how many lines the head of a group takes."""
SIGN, NO_SIGN = "#0072b2", "#9aa4af"
"""Of an interval that leaves nothing out and of one that holds nothing."""


def forest(groups: Mapping[str, Mapping[str, Estimate]], *, score: str, against: str) -> bytes:
    """Return a PNG: one line a difference with its 95 % interval, under the name of its cell, a line at nothing.

    Intervals that hold nothing are grey.

    Args:
        groups: by cell's name and row, the difference. score: what it is of. against: the row that was taken off.
    """
    place, places, names = 0.0, list[float](), list[str]()
    heads, lines = list[tuple[float, str]](), list[tuple[float, Estimate]]()
    for name, rows in groups.items():
        place -= HEAD_LINES
        heads.append((place, name))
        for row, one in rows.items():
            place -= 1.0
            places, names = [*places, place], [*names, row]
            lines.append((place, one))
    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(7.4, 0.75 - LINE_IN * (place - 1.0)), layout="constrained")
        axes = figure.subplots()
        for at, one in lines:
            bounds = one.interval()
            low, high = bounds or (one.mean, one.mean)
            colour = SIGN if one.told_apart() else NO_SIGN
            axes.plot([low, high], [at, at], color=colour, linewidth=1.6)
            filled = colour if bounds else "white"  # hollow: there is no interval
            axes.plot([one.mean], [at], marker="o", color=colour, markerfacecolor=filled, markersize=4.5)
        axes.axvline(0, color="#3b3f45", linewidth=0.9)
        axes.set_yticks(places, names)
        axes.set_ylim(place - 0.8, 0.0)
        for at, name in heads:
            axes.annotate(
                name, (0, at), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                va="center", fontweight="bold", fontsize="small",
            )  # fmt: skip
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"difference in {score} to {against},\n95 % interval over patients and seeds")
        return png_bytes(figure)


def grid(
    differences: Mapping[str, Mapping[tuple[float, float], Estimate]], *, knobs: tuple[str, str], score: str
) -> bytes:
    """Return a PNG: of every difference a square table over two knobs, coloured by its size, bold where nothing is
    outside its 95 % interval.

    Args:
        differences: by name and by the knobs' values. knobs: their names, the first is the line. score: what it is of.
    """
    every = [one.mean for table in differences.values() for one in table.values()]
    most = max(map(abs, every), default=0.0) or 1.0
    columns = min(3, len(differences))
    lines = -(-len(differences) // columns)
    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(2.65 * columns + 0.6, 2.6 * lines + 0.5), layout="constrained")
        drawn = None
        places = figure.subplots(lines, columns, squeeze=False).flat
        for axes, (name, table) in zip(places, differences.items(), strict=False):
            first, second = sorted({at for at, _ in table}), sorted({at for _, at in table})
            values = [[table[a, b].mean if (a, b) in table else float("nan") for b in second] for a in first]
            drawn = axes.imshow(values, cmap="RdBu", vmin=-most, vmax=most, origin="lower")
            for (a, b), one in table.items():
                weight = "bold" if one.told_apart() else "normal"
                ink = "white" if abs(one.mean) > 0.6 * most else "#1d242c"
                axes.text(
                    second.index(b), first.index(a), f"{one.mean:+.3f}", ha="center", va="center", fontsize="small",
                    fontweight=weight, color=ink,
                )  # fmt: skip
            axes.set_xticks(range(len(second)), [f"{at:g}" for at in second])
            axes.set_yticks(range(len(first)), [f"{at:g}" for at in first])
            axes.set_title(name, fontsize="medium")
            axes.set_xlabel(knobs[1])
            axes.set_ylabel(knobs[0])
            axes.grid(visible=False)
        for axes in figure.axes[len(differences) :]:
            axes.set_visible(False)
        if drawn is not None:
            figure.colorbar(drawn, ax=figure.axes, label=f"difference in {score}", shrink=0.7)
        return png_bytes(figure)


def curve(lines: Mapping[str, Mapping[float, Estimate]], *, axis: str, score: str) -> bytes:
    """Return a PNG: the score of every row over the cells' axis, with intervals.

    Args:
        lines: by row, the estimate at every place of the axis; a row of one place is drawn across it.
        axis: what it counts. score: what it is of.
    """
    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(7.4, 4.4), layout="constrained")
        axes = figure.subplots()
        ticks = sorted({at for line in lines.values() for at in line})
        for number, (row, line) in enumerate(lines.items()):
            at = sorted(line)
            shift = 1 + 0.03 * (number - (len(lines) - 1) / 2)  # so that intervals do not lie on each other
            means = [line[place].mean for place in at]
            reach = [(line[p].interval() or (line[p].mean,) * 2) for p in at]
            bars = [
                [mean - low for mean, (low, _) in zip(means, reach, strict=True)],
                [high - mean for mean, (_, high) in zip(means, reach, strict=True)],
            ]
            if len(at) == 1:
                axes.axhline(means[0], color=COLOURS[number % len(COLOURS)], linewidth=1.0, linestyle=":")
            shifted = [place * shift for place in at]
            axes.errorbar(shifted, means, yerr=bars, label=row, markersize=6, elinewidth=1.2, **look(number))
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.minorticks_off()
        axes.set_xlabel(axis)
        axes.set_ylabel(f"{score}, 95 % interval")
        figure.legend(loc="outside right upper", frameon=False)
        return png_bytes(figure)


def over_bytes(points: Mapping[str, tuple[float, Estimate]], *, score: str) -> bytes:
    """Return a PNG: the score of every row over what a site sends in the whole run, with intervals.

    Args:
        points: by row, bytes and score. score: what it is.
    """
    with matplotlib.rc_context(HOUSE_STYLE):
        figure = Figure(figsize=(7.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for number, (row, (sent, one)) in enumerate(points.items()):
            low, high = one.interval() or (one.mean, one.mean)
            bars = [[one.mean - low], [high - one.mean]]
            axes.errorbar(
                [sent / 1e6], [one.mean], yerr=bars, label=row, markersize=7, elinewidth=1.2, linestyle="",
                **look(number),
            )  # fmt: skip
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.3)
        axes.xaxis.set_major_locator(FixedLocator([0, *(10.0**decade for decade in range(-1, 6))]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda megabytes, _: f"{megabytes:g}"))
        axes.margins(0.08)
        axes.set_xlabel("MB sent by a site in the whole run")
        axes.set_ylabel(f"{score}, 95 % interval")
        figure.legend(loc="outside right upper", frameon=False)
        return png_bytes(figure)
