"""The plots of a comparison: scores against bytes sent, and validation scores by round at every site."""

from __future__ import annotations

import statistics
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from sitelora.comparison.run_file import SERVED
from sitelora.comparison.runs import Runs
from sitelora.comparison.scores import score
from sitelora.report.style import HOUSE_STYLE, png_bytes

# Okabe and Ito's, safe for colour-blind readers; markers tell the methods apart where colours repeat.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0578d", "#e69f00", "#56b4e9", "#3b3f45", "#87909a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")

_BESIDE = 12
"""Methods that one column of a legend holds."""

LEAST_SPAN = 0.02
"""Of the axis of scores, as a share of what the score can be: a thousandth is not to look like a gulf."""


def score_by_bytes(runs: Runs) -> bytes:
    """Return a PNG: mean personal test score over sites against the bytes a site sends, one point a method."""
    with matplotlib.rc_context(HOUSE_STYLE):
        columns = 1 if len(runs.by_method) <= _BESIDE else 2
        height = max(4.2, 0.26 * -(-len(runs.by_method) // columns) + 0.4)
        figure = Figure(figsize=(7.2 + 4.2 * (columns - 1), height), layout="constrained")
        axes = figure.subplots()
        for method, look in _looks(runs).items():
            each = runs.by_method[method]
            found = [score(each, site) for site in runs.sites]
            mean = statistics.fmean(one.mean for one in found if one)
            sent = statistics.fmean(each[0]["sites"][site]["bytes_up"] for site in runs.sites)
            shared = each[0]["sites"][runs.sites[0]]["sent"] == "shared tensors"
            label = method if shared else f"{method} (images)"
            axes.plot([sent / 1e6], [mean], linestyle="", markersize=9, label=label, **look)
        axes.set_xscale("symlog", linthresh=0.1)
        axes.xaxis.set_major_locator(FixedLocator([0, *(10.0**decade for decade in range(-1, 6))]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda megabytes, _: f"{megabytes:g}"))
        axes.margins(0.08)
        low, high = axes.get_ylim()
        ends = runs.primary.limits((low, high))
        if high - low < (least := LEAST_SPAN * (ends[1] - ends[0])):
            middle = (low + high) / 2
            axes.set_ylim(middle - least / 2, middle + least / 2)
        axes.set_xlabel("MB sent by a site in the whole run")
        axes.set_ylabel(f"mean personal test {runs.primary.heading}")
        figure.legend(loc="outside right upper", frameon=False, ncols=columns)
        return png_bytes(figure)


def model_of_curves(runs: Runs) -> str:
    """Return which model the validation score of a run's rounds is of."""
    return "freshly trained model" if runs.first["format"] < SERVED else "served model"


def curves(runs: Runs) -> bytes:
    """Return a PNG: validation score by round, mean over seeds, one panel a site; the axis says of which model."""
    with matplotlib.rc_context(HOUSE_STYLE):
        columns = min(3, len(runs.sites))
        rows = -(-len(runs.sites) // columns)
        figure = Figure(figsize=(3.6 * columns + 1.4, 2.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        width = 1.8 if len(runs.by_method) <= len(COLOURS) else 0.9
        for axes in panels[len(runs.sites) :]:
            axes.set_visible(False)
        for axes, site in zip(panels, runs.sites, strict=False):
            for method, look in _looks(runs).items():
                series = [run["validation_score"][site] for run in runs.by_method[method]
                          if site in run["validation_score"]]  # fmt: skip
                whole = [each for each in series if None not in each]
                if whole:
                    mean = [statistics.fmean(values) for values in zip(*whole, strict=True)]
                    axes.plot(range(1, len(mean) + 1), mean, markersize=4, linewidth=width, label=method, **look)
            axes.set_title(site, loc="left", fontsize=11, fontweight="bold")
            axes.set_xlabel("round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_ylabel(f"validation {runs.primary.heading}\n{model_of_curves(runs)}")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
        return png_bytes(figure)


def look(number: int) -> dict[str, Any]:
    """Return the colour and marker of a plot's line with this number, from 0."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _looks(runs: Runs) -> dict[str, dict[str, Any]]:
    return {method: look(i) for i, method in enumerate(runs.by_method)}
