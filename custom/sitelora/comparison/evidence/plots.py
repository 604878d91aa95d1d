"""Which pictures an experiment's page has, and what stands in each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from sitelora.comparison.evidence import figures
from sitelora.comparison.evidence.estimate import Estimate
from sitelora.comparison.evidence.experiment import REFERENCE
from sitelora.comparison.evidence.results import bytes_sent
from sitelora.comparison.evidence.verdicts import Rows
from sitelora.metric import Metric

Scores = Mapping[str, Mapping[str, Estimate | None]]
"""By cell and row."""
Pairs = frozenset[tuple[int, str]] | None
"""Of seed and site; None for all."""


def write_plots(name: str, rows: Rows, scores: Scores, primary: Metric, folder: Path) -> list[str]:
    """Write an experiment's pictures into a folder and return what its page says to show them.

    Args:
        name: of the experiment. scores: mean of the sites asked about. primary: what they are of.
    """
    pairs = _everywhere(rows)
    found = {
        "curve": (
            _curve(rows, scores, primary, pairs),
            f"{primary.title} over {rows.results.asks.axis}{_same_sites(rows, pairs)}",
        ),
        "grid": (
            _grid(rows, primary),
            "Differences over both knobs; bold where the 95 % interval does not hold nothing",
        ),
        "bytes": (_over_bytes(rows, scores, primary), f"{primary.title} over the bytes that a site sends"),
        "forest": (
            _forest(rows, primary),
            f"Differences to `{REFERENCE}` with 95 % intervals, exploratory; grey where nothing is told apart, hollow "
            "without an interval",
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for kind, (image, words) in found.items():
        if image is not None:
            (folder / f"{name}_{kind}.png").write_bytes(image)
            shown += [f"![{words.partition(';')[0].partition('. ')[0]}]({name}_{kind}.png)", f"*{words}.*"]
    return shown


def _everywhere(rows: Rows) -> Pairs:
    """Return the pairs of seed and site that every cell on the axis has; None where all cells have all.

    With sites that a seed draws, means of other pairs would differ by whose patients they are of.
    """
    asks = rows.results.asks
    cells = [cell for cell, what in asks.cells.items() if what.at is not None]
    if not any(asks.cells[cell].sites_at_once for cell in cells):
        return None
    found = [
        {(key[4], site) for key, record in rows.results.records.items() if key[0] == cell for site in record["sites"]}
        for cell in cells
    ]
    return frozenset(set.intersection(*(pairs for pairs in found if pairs))) if any(found) else None


def _same_sites(rows: Rows, pairs: Pairs) -> str:
    """Return what a curve's caption says of the sites that its points are of; empty where they are all."""
    if pairs is None:
        return ""
    sites = len({site for _, site in pairs})
    return (
        f". Every point is of the same sites in the same repetitions, those that the fewest have: {sites} of "
        f"{len(rows.results.asks.sites)} sites"
    )


def _curve(rows: Rows, scores: Scores, primary: Metric, pairs: Pairs) -> bytes | None:
    asks = rows.results.asks
    lines: dict[str, dict[float, Estimate]] = {row: {} for row in asks.curve or asks.entries}
    for cell, what in asks.cells.items():
        for row, one in scores[cell].items():
            if pairs is not None and row in lines:
                one = rows.difference({f"{cell}/{row}": 1.0}, pairs=pairs)
            # cells that hold something else beside the axis (both sites small) have no place on it
            if what.at is not None and one is not None and row in lines:
                at = asks.alone_at if row == REFERENCE and asks.alone_at is not None else what.at
                lines[row][at] = one
    lines = {row: line for row, line in lines.items() if line}
    if not asks.axis or not lines:
        return None
    return figures.curve(lines, axis=asks.axis, score=primary.title)


def _grid(rows: Rows, primary: Metric) -> bytes | None:
    asks = rows.results.asks
    tables: dict[str, dict[tuple[float, float], Estimate]] = {}
    knobs = next((tuple(what.drawn) for what in asks.cells.values() if what.drawn), ())
    for pair in asks.grid:
        more, less = pair.split(" - ")
        for cell, what in asks.cells.items():
            one = rows.difference({f"{cell}/{more}": 1.0, f"{cell}/{less}": -1.0}, sites=asks.asked())
            if one is not None:
                first, second = (what.drawn[knob] for knob in knobs)
                tables.setdefault(pair, {})[first, second] = one
    if not tables:
        return None
    return figures.grid(tables, knobs=(knobs[0], knobs[1]), score=primary.title)


def _over_bytes(rows: Rows, scores: Scores, primary: Metric) -> bytes | None:
    """Return the scores of the first cell over what leaves a site."""
    asks, points = rows.results.asks, dict[str, tuple[float, Estimate]]()
    first = next(iter(asks.cells))
    for row, one in scores[first].items() if asks.over_bytes else ():
        records = rows.records(first, row).values()
        if one is not None and records:
            points[row] = (statistics.fmean(bytes_sent(record, "bytes_up") for record in records), one)
    return figures.over_bytes(points, score=primary.title) if points else None


def _forest(rows: Rows, primary: Metric) -> bytes | None:
    """Return differences to being alone, cell by cell; an experiment with a grid has them there."""
    asks = rows.results.asks
    groups: dict[str, dict[str, Estimate]] = {}
    for cell, what in asks.cells.items() if not asks.grid else ():
        for row, entry in asks.rows(cell).items():
            one = rows.above_alone(cell, row, asks.asked()) if row != REFERENCE and not entry.best_of else None
            if one is not None:
                groups.setdefault(what.title, {})[row] = one
    return figures.forest(groups, score=primary.title, against=REFERENCE) if groups else None
