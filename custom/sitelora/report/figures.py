"""The plots of a run: the score by round at every site, every model's score in the end, bytes by round."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sitelora.metric import Metric
from sitelora.report.costs import cost_of, ratio_text
from sitelora.report.findings import scored_models
from sitelora.report.format_values import bytes_text, shortened
from sitelora.report.results import Run, mean
from sitelora.report.style import ROUND_CURVES, TONES, Picture, canvas, file_name, finish, model_style

MOST_SEGMENTS = 150
MOST_MARKERS = 15  # rounds above which a curve is a line without markers
LABEL_HEIGHT = 0.13  # of a number, as a share of the axis


def score_by_round(run: Run, site: str) -> Picture | None:
    """Draw one site's validation score by round of the received, the trained, the served model; ``None`` without any.

    All sites share the axes, so that panels can be compared. A round that the site missed leaves
    a gap and a cross.
    """
    numbers = [each.counted for each in run.rounds]
    entries = [each.sites.get(site) for each in run.rounds]
    found = {metric: run.course(site, metric) for metric in ROUND_CURVES}
    curves = {metric: values for metric, values in found.items() if mean(values) is not None}
    if not curves:
        return None
    low, high = score_limits(run)
    with canvas(280, 186) as (figure, axes):
        for metric, values in curves.items():
            _curve(axes, numbers, values, ROUND_CURVES[metric])
        _last_values(axes, numbers, curves, run.primary, apart_by=LABEL_HEIGHT * (high - low))
        absent = [n for n, entry in zip(numbers, entries, strict=True) if entry is None or entry.status != "ok"]
        axes.plot(
            absent, [low + 0.04 * (high - low)] * len(absent), "x", color=TONES["alert"].light, markersize=6, mew=1.6
        )
        axes.set(ylim=(low, high), yticks=[low, (low + high) / 2, high], xlim=(numbers[0] - 0.3, numbers[-1] + 0.3))
        axes.set_xlim(right=numbers[-1] + max(0.5, 0.16 * (len(numbers) - 1)))  # room for the last values
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.grid(axis="x", visible=False)
        hospital = run.hospital(site)
        axes.set_title(shortened(site, 34), loc="left", fontsize=11, fontweight="bold", pad=20 if hospital else 6)
        if hospital:
            tone, words = TONES["muted"].light, shortened(hospital, 42)
            axes.annotate(words, (0, 1), (0, 6), "axes fraction", "offset points", color=tone, fontsize=10)
        last = {m: run.primary.text(next(v for v in reversed(values) if v is not None)) for m, values in curves.items()}
        told = {"score_received": "received", "score_personal": "freshly trained", "score_served": "served"}
        ends = ", ".join(f"{word} {last[metric]}" for metric, word in told.items() if metric in last)
        words = f"Validation {run.primary.title} by round at {site}, the last of each model: {ends}"
        return finish(figure, name=f"score-{file_name(site)}", words=words)


def _curve(axes: Axes, numbers: Sequence[int], values: Sequence[float | None], model: str) -> None:
    """Draw one line, broken where a value is absent; the served model's is a wide band that the others run over."""
    look = model_style(model)
    shown = look.marker if len(numbers) <= MOST_MARKERS else None
    if model == "personal":
        axes.plot(numbers, heights(values), color=look.colour, linewidth=6, alpha=0.35, solid_capstyle="round")
    else:
        axes.plot(numbers, heights(values), color=look.colour, marker=shown, markersize=4.5)


def heights(values: Sequence[float | None]) -> list[float]:
    """Return values as a line needs them, broken where one is absent."""
    return [float("nan") if value is None else value for value in values]


def score_limits(run: Run) -> tuple[float, float]:
    """Return the ends of the axis of every plot of scores by round, to the tenth around what was found.

    Of an axis from 0 to 1 the curves of one run fill a few hundredths; the same ends for all panels of a page keep them
    comparable, and the numbers stand beside the axis.
    """
    told = [value for site in run.sites for metric in ROUND_CURVES for value in run.course(site, metric)]
    found = [value for value in told if value is not None]
    low, high = run.primary.limits(found)
    step = (high - low) / 10
    if not found:
        return low, high
    lowest, highest = math.floor((min(found) - low) / step), math.ceil((max(found) - low) / step)
    return low + step * max(0, min(lowest, highest - 2)), low + step * max(2, highest)


def _last_values(
    axes: Axes,
    numbers: Sequence[int],
    curves: Mapping[str, Sequence[float | None]],
    score: Metric,
    *,
    apart_by: float,
) -> None:
    """Write the last value of every curve beside its end, kept apart where two curves end close together."""
    ends = []
    for metric, values in curves.items():
        present = [(n, v) for n, v in zip(numbers, values, strict=True) if v is not None]
        if present:
            ends.append((present[-1][1], present[-1][0], model_style(ROUND_CURVES[metric]).colour))
    ends.sort()
    apart = [value for value, _, _ in ends]
    for _ in range(len(ends)):  # neighbours that are too close move apart by the same
        for low, high in itertools.pairwise(range(len(ends))):
            push = max(0.0, apart_by - (apart[high] - apart[low])) / 2
            apart[low], apart[high] = apart[low] - push, apart[high] + push
    for (value, place, colour), height in zip(ends, apart, strict=True):
        axes.annotate(
            score.text(value, fewer=1), (place, height), (7, 0), textcoords="offset points", color=colour, va="center"
        )


def final_scores(run: Run) -> Picture | None:
    """Draw every model's test score at every site with its 95 % interval; ``None`` without an evaluation."""
    sites = [s for s in run.sites if any(m.score is not None for m in run.evaluation.get(s, {}).values())]
    if not sites:
        return None
    models = scored_models(run)
    with canvas(360, 56 + 36 * len(sites)) as (figure, axes):
        for row, site in enumerate(sites):
            values = [value for m in models if (value := run.score(site, m)) is not None]
            axes.plot([min(values), max(values)], [row, row], color=TONES["rule"].light, linewidth=3.5, zorder=1)
        for place, model in enumerate(models):
            look, shift = model_style(model), 0.17 * (place - (len(models) - 1) / 2)
            for row, site in enumerate(sites):
                score = run.evaluation[site].get(model)
                if score is None or score.score is None:
                    continue
                if score.interval:
                    axes.plot(score.interval, [row + shift] * 2, color=look.colour, linewidth=1.2, alpha=0.75, zorder=2)
                face = TONES["paper"].light if model == "base" else look.colour
                axes.plot(
                    score.score, row + shift, look.marker, color=look.colour, markerfacecolor=face, mew=1.5, ms=6.5
                )
        drawn = [value for site in sites for model in models if (value := run.score(site, model)) is not None]
        low, high = run.primary.limits(drawn)
        axes.set(
            xlim=(low - 0.02 * (high - low), high),
            ylim=(len(sites) - 0.5, -0.5),
            yticks=range(len(sites)),
            yticklabels=sites,
        )
        axes.set_xlabel(f"{run.primary.heading} on test data")
        axes.grid(axis="y", visible=False)
        for label in axes.get_yticklabels():
            label.set_color(TONES["ink"].light)
            label.set_fontsize(11)
        words = f"{run.primary.title} of {', '.join(models)} at {len(sites)} sites; the same numbers are in the table"
        return finish(figure, name="score-final", words=words)


def bytes_by_round(run: Run) -> Picture | None:
    """Draw the bytes sent down and up in every round; ``None`` when none were counted.

    A bar has one segment a site, unless that would be too many to see.
    """
    costs = [cost_of(run, [each]) for each in run.rounds]
    most = max((max(cost.bytes_up, cost.bytes_down) for cost in costs), default=0)
    if not most:
        return None
    with canvas(360, 216) as (figure, axes):
        groups = [[site] for site in run.sites] if segmented(run) else [list(run.sites)]
        gap = 0.7 if segmented(run) else 0.0
        for direction, model, shift in (("bytes_down", "received", -0.2), ("bytes_up", "personal", 0.2)):
            tone = model_style(model).colour
            for each in run.rounds:
                height = 0.0
                for group in groups:
                    size = sum(getattr(each.sites[site], direction) for site in group if site in each.sites)
                    place = each.counted + shift
                    axes.bar(place, size, 0.36, height, color=tone, edgecolor=TONES["paper"].light, linewidth=gap)
                    height += size
        axes.set_ylim(0, most * 1.08)
        axes.set_xlabel("Round")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.yaxis.set_major_formatter(FuncFormatter(_axis_bytes))
        axes.grid(axis="x", visible=False)
        total = cost_of(run)
        totals = f"{bytes_text(total.bytes_down)} to the sites and {bytes_text(total.bytes_up)} from them"
        words = f"Bytes by round and site, in all {totals}"
        return finish(figure, name="bytes", words=words)


def bytes_in_all(run: Run) -> Picture | None:
    """Draw all bytes of the rounds as one bar beside those of full fine-tuning, on one linear axis.

    ``None`` when nothing travelled or the size of the whole model is not known.
    """
    cost = cost_of(run)
    if not cost.total or not cost.full:
        return None
    bars = (("full fine-tuning", cost.full, "base", ""), ("this run", cost.total, "personal", ratio_text(cost.ratio)))
    with canvas(360, 128) as (figure, axes):
        for row, (name, size, tone, share) in enumerate(bars):
            axes.barh(row, size, 0.42, color=TONES[tone].light)
            words = f"{name}: {bytes_text(size)}" + (f", {share} of it" if share else "")
            axes.annotate(words, (0, row - 0.3), (0, 1), textcoords="offset points", color=TONES["ink"].light)
        axes.set(xlim=(0, max(cost.full, cost.total)), ylim=(1.3, -0.75), yticks=[])
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.xaxis.set_major_formatter(FuncFormatter(_axis_bytes))
        words = f"Bytes of all rounds: this run {bytes_text(cost.total)}, full fine-tuning {bytes_text(cost.full)}"
        return finish(figure, name="bytes-total", words=words)


def _axis_bytes(value: float, _: object) -> str:
    """Return a size for an axis, round sizes without their zeros."""
    return bytes_text(value).replace(".00 ", " ").replace(".0 ", " ") if value else "0"


def segmented(run: Run) -> bool:
    """Say whether the bars of :func:`bytes_by_round` show every site."""
    return len(run.sites) * len(run.rounds) <= MOST_SEGMENTS
