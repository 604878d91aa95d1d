"""What only many cases together tell: a table of their scores, and the plots that the task wants of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sitelora.metric import Metric
from sitelora.plot import Counts, Curves, Plot
from sitelora.report.findings import main_model, scored_models
from sitelora.report.format_values import interval_text, shortened
from sitelora.report.results import Run, mean
from sitelora.report.style import TONES, Picture, canvas, file_name, finish, model_style
from sitelora.report.table import Cell, Column, Table, table_of


class Look(NamedTuple):
    """A line of a plot: neither colour nor shape alone tells it from another."""

    tone: str
    marker: str
    dashes: Any


LOOKS = (
    Look("personal", "o", "-"),
    Look("received", "s", (0, (4, 1.6))),
    Look("unseen", "^", (0, (1.2, 1.4))),
    Look("global", "D", "-"),
    Look("trained", "v", (0, (4, 1.6))),
    Look("beside", "P", (0, (1.2, 1.4))),
)
MOST_NUMBERED = 10
"""Classes above which a matrix has no number in its cells."""


@dataclass(frozen=True, kw_only=True)
class Panels:
    """One plot of every site."""

    title: str
    reading: str
    panels: Sequence[Picture]


def set_table(run: Run) -> Table | None:
    """Return the set scores of the base and of the model that the page is about, at every site; ``None`` without any.

    A score that is undefined at a site, as where a class is missing, is a dash.
    """
    models = [model for model in scored_models(run) if model in ("base", main_model(run), run.beside)]
    rows = [
        (site, model)
        for site in run.sites
        for model in models
        if model in run.evaluation.get(site, {}) and run.evaluation[site][model].set_scores
    ]
    told = {name for site, model in rows for name in run.evaluation[site][model].set_scores}
    metrics = [metric for metric in run.metrics if metric.name in told]
    if not metrics:
        return None
    columns = [
        Column("Site", lambda row: Cell(row[0], run.hospital(row[0])), "Mean", numeric=False),
        Column("Model", lambda row: model_style(row[1]).short, _short(main_model(run)), numeric=False),
    ]
    for metric in metrics:
        of_main = mean(run.evaluation[s][m].set_scores.get(metric.name) for s, m in rows if m == main_model(run))
        columns.append(Column(metric.title, partial(_set_score, run, metric), metric.text(of_main), metric.help))
    return table_of(columns, rows, footer=len(run.sites) > 1)


def _short(model: str | None) -> str:
    return "" if model is None else model_style(model).short


def _set_score(run: Run, metric: Metric, row: tuple[str, str]) -> Cell:
    score = run.evaluation[row[0]][row[1]]
    value, interval = score.set_scores.get(metric.name), score.set_ci95.get(metric.name)
    low_high = (interval[0], interval[1]) if interval else None
    return Cell(metric.text(value), interval_text(low_high), value)


def decisions(run: Run) -> list[str]:
    """Return a line a site on how the answers of the model that the page is about became decisions."""
    main = main_model(run)
    if main is None:
        return []
    told = {site: models[main].decision.get("why") for site, models in run.evaluation.items() if main in models}
    return [f"{site}, {main} model: {why}." for site, why in told.items() if why]


def plots_of(run: Run) -> Mapping[str, Sequence[Plot]]:
    """Return what the task wants drawn of the model that the page is about, by site; nothing where it wants nothing."""
    main = main_model(run)
    if run.task is None or main is None:
        return {}
    found = {site: models[main] for site, models in run.evaluation.items() if main in models}
    drawn = {site: run.task.plots(score.cases) for site, score in found.items() if score.cases}
    return {site: plots for site, plots in drawn.items() if plots}


def plots(run: Run) -> list[Panels]:
    """Draw every kind of plot, one panel a site."""
    by_name: dict[str, list[tuple[str, Plot]]] = {}
    for site, found in plots_of(run).items():
        for plot in found:
            by_name.setdefault(plot.name, []).append((site, plot))
    return [
        Panels(
            title=each[0][1].title,
            reading=each[0][1].reading,
            panels=[_counts(site, plot) if isinstance(plot, Counts) else _curves(site, plot) for site, plot in each],
        )
        for each in by_name.values()
    ]


def _curves(site: str, plot: Curves) -> Picture:
    """Draw lines in a square of shares; where points have cases behind them, these and a faint line."""
    with canvas(280, 292) as (figure, axes):
        if plot.diagonal:
            axes.plot([0, 1], [0, 1], color=TONES["base"].light, linewidth=1.0, linestyle=(0, (3, 3)))
        most = max((count for line in plot.lines for count in line.cases), default=1)
        for line, look in zip(plot.lines, itertools.cycle(LOOKS)):
            tone, name = TONES[look.tone].light, shortened(line.name, 22)
            if line.cases:
                sizes = [10 + 60 * count / most for count in line.cases]
                axes.plot(line.x, line.y, color=tone, linewidth=1.0, alpha=0.35, clip_on=False)
                axes.scatter(line.x, line.y, s=sizes, marker=look.marker, color=tone, clip_on=False, zorder=3)
                axes.plot([], [], color=tone, linestyle="", marker=look.marker, markersize=6, label=name)
            else:
                axes.plot(line.x, line.y, color=tone, linestyle=look.dashes, label=name, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
        axes.set_xlabel(shortened(plot.x, 40))
        axes.set_ylabel(plot.y)
        _title(axes, site)
        columns = 2 if max(len(line.name) for line in plot.lines) < 16 else 1
        figure.legend(loc="outside lower center", frameon=False, fontsize=9.5, ncols=columns, handlelength=1.8)
        words = f"{plot.title} at {site}: {plot.y} against {plot.x}, {', '.join(line.name for line in plot.lines)}"
        return finish(figure, name=f"{plot.name}-{file_name(site)}", words=words)


def _counts(site: str, plot: Counts) -> Picture:
    """Draw a matrix as cells: the larger a row's share the stronger, off the diagonal in orange."""
    size = len(plot.names)
    with canvas(280, 268) as (figure, axes):
        for y, row in enumerate(plot.counts):
            for x, count in enumerate(row):
                tone, share = TONES["received" if x == y else "personal"].light, count / max(sum(row), 1)
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=tone, alpha=0.75 * share))
                if size <= MOST_NUMBERED:
                    axes.text(x, y, str(count), ha="center", va="center", fontsize=12 if size < 5 else 8)
        ends, names = (-0.5, size - 0.5), [shortened(name, 14) for name in plot.names]
        axes.set(xlim=ends, ylim=ends[::-1], aspect="equal", xticks=range(size), yticks=range(size))
        axes.set_xticklabels(names, rotation=90 if size > 2 else 0, fontsize=9 if size < 8 else 7)
        axes.set_yticklabels(names, fontsize=9 if size < 8 else 7)
        axes.set_xlabel(plot.columns)
        axes.set_ylabel(plot.rows)
        axes.grid(visible=False)
        _title(axes, site)
        right = sum(row[place] for place, row in enumerate(plot.counts))
        words = f"{plot.title} at {site}: {right} of {sum(map(sum, plot.counts))} cases on the diagonal"
        return finish(figure, name=f"{plot.name}-{file_name(site)}", words=words)


def _title(axes: Axes, site: str) -> None:
    axes.set_title(shortened(site, 34), loc="left", fontsize=11, fontweight="bold")
