"""The pictures of an aggregation: how far means of factors are from the mean product, how similar the sites are."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sitelora.report.figures import MOST_MARKERS
from sitelora.report.format_values import shortened
from sitelora.report.results import Run
from sitelora.report.style import TONES, Picture, canvas, finish, sheet
from sitelora.run_result import Round, Similarity

AVERAGING, BROADCAST = "averaging_error", "product_error"
MOST_MATRICES = 12
MOST_NUMBERED = 8  # sites above which a matrix has no numbers in its cells


def heterogeneity(run: Run) -> Picture | None:
    """Draw by round what averaging A and B apart would miss of the mean product, and what the rule missed.

    ``None`` where no round tells both, as with methods of which only one factor travels.
    """
    rounds = [each for each in run.rounds if AVERAGING in each.server]
    if not rounds:
        return None
    numbers = [each.counted for each in rounds]
    missed = {name: [each.server.get(name, 0.0) for each in rounds] for name in (AVERAGING, BROADCAST)}
    spread = [_spread(each) for each in rounds]
    with canvas(360, 230) as (figure, axes):
        averaged, sent = TONES["received"].light, TONES["personal"].light
        if all(spread):
            lows, highs = zip(*spread, strict=True)
            axes.fill_between(numbers, lows, highs, color=averaged, alpha=0.16, linewidth=0)
        above = missed[AVERAGING][-1] >= missed[BROADCAST][-1]
        for name, tone, marker in ((AVERAGING, averaged, "s"), (BROADCAST, sent, "o")):
            shown = marker if len(numbers) <= MOST_MARKERS else None
            axes.plot(numbers, missed[name], color=tone, marker=shown, markersize=4.5)
            words = f"{100 * missed[name][-1]:.1f} %"
            axes.annotate(words, (numbers[-1], missed[name][-1]), (7, 0), textcoords="offset points", color=tone,
                          va="bottom" if above == (name == AVERAGING) else "top")  # fmt: skip
        axes.set_ylim(bottom=min(-0.01, -0.04 * max(missed[AVERAGING])))
        axes.set_xlim(right=numbers[-1] + max(0.7, 0.2 * (len(numbers) - 1)))
        axes.set_xlabel("Round")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.grid(axis="x", visible=False)
        words = (
            "What is missing of the mean product by round: in the end "
            f"{missed[AVERAGING][-1]:.2%} with means of factors, {missed[BROADCAST][-1]:.2%} with what was sent"
        )
        return finish(figure, name="heterogeneity", words=words)


def similarity(run: Run) -> list[Picture]:
    """Draw the similarity matrix and the weights of every round, of at most twelve rounds spread evenly."""
    told = [(each, each.details.similarity) for each in run.rounds if each.details.similarity]
    if len(told) > MOST_MATRICES:
        last = len(told) - 1
        told = [told[round(place * last / (MOST_MATRICES - 1))] for place in range(MOST_MATRICES)]
    return [_matrices(each, found) for each, found in told]


def _matrices(each: Round, found: Similarity) -> Picture:
    sites = found.sites
    with sheet(310, 206) as figure:
        left, right = figure.subplots(1, 2)
        for axes, rows, title in ((left, found.cosines, "Similarity"), (right, found.weights, "Weights")):
            _matrix(axes, sites, rows)
            axes.set_title(title, fontsize=9.5, loc="left")
        right.set_yticklabels([])
        figure.suptitle(f"Round {each.counted}", fontsize=11, fontweight="bold", x=0.01, ha="left")
        words = f"Round {each.counted}: similarity of the changes of {', '.join(sites)}, and the weights made of it"
        return finish(figure, name=f"similarity-{each.number}", words=words)


def _matrix(axes: Axes, sites: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Draw a square matrix as cells: the stronger the colour the larger, orange below zero."""
    for y, row in enumerate(rows):
        for x, strength in enumerate(row):
            tone = TONES["received" if strength >= 0 else "personal"].light
            cell = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=tone, alpha=0.85 * min(1.0, abs(strength)))
            axes.add_patch(cell)
            if len(sites) <= MOST_NUMBERED:
                text = f"{strength:.2f}".replace("0.", ".", 1).replace("-", "−")
                axes.text(x, y, text, ha="center", va="center", fontsize=9 if len(sites) < 5 else 7)
    names = [shortened(site, 12) for site in sites]
    ends = (-0.5, len(sites) - 0.5)
    axes.set(xlim=ends, ylim=ends[::-1], aspect="equal", xticks=range(len(sites)), yticks=range(len(sites)))
    axes.set_xticklabels(names, rotation=90 if len(sites) > 2 else 0, fontsize=8.5)
    axes.set_yticklabels(names, fontsize=8.5)
    axes.grid(visible=False)


def _spread(each: Round) -> tuple[float, float] | None:
    """Return the smallest and the largest averaging error over adapters."""
    values = [told[AVERAGING] for told in each.details.layers.values() if AVERAGING in told]
    return (min(values), max(values)) if values else None
