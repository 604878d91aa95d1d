"""Which runs are missing, from the files alone: rates first, then length, then seeds, then further seeds where unsure.

A plan has no memory: it is made again after every run, so that a benchmark which was stopped at any moment goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sitelora.comparison.evidence.experiment import FULL, NO_RATE, Entry, Experiment, Protocol
from sitelora.comparison.evidence.job import EvidenceJob
from sitelora.comparison.evidence.results import Results


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What validation says of a cell.

    Attributes:
        steps: length that is long enough, or as long as may be. converged: whether it is long enough.
        rates: chosen rate by row; rows without one are still searched. scores: validation score by row and rate.
        wanted: (row, rate) that must be run before anything else of the cell. gains: of the last quarter, by row.
    """

    steps: int
    converged: bool
    rates: Mapping[str, float]
    scores: Mapping[str, Mapping[float, float]]
    wanted: tuple[tuple[str, float], ...]
    gains: Mapping[str, float]

    @property
    def done(self) -> bool:
        """Whether rates and length are settled."""
        return not self.wanted


def sources(asks: Experiment) -> list[str]:
    """Return the cells that have rates and a length of their own."""
    return [cell for cell in asks.cells if asks.source(cell) == cell]


def next_rates(
    scores: Mapping[float, float], rules: Protocol, asks: Experiment, sign: int
) -> tuple[list[float], float]:
    """Return the rates that are still to be tried, and the best so far (the middle of the grid before there is any).

    Args:
        scores: validation score by rate. sign: 1 where more is better, else -1.
    """
    grid = sorted(asks.rates or rules.rates)
    middle = grid[len(grid) // 2]
    wanted = [rate for rate in (grid if asks.search == FULL else [middle]) if rate not in scores]
    if wanted or not scores:
        return wanted, middle
    # of equal ones the nearest to the middle: a model that no rate has touched must not lead the search away
    best = min(scores, key=lambda rate: (-sign * scores[rate], abs(math.log(rate / middle)), rate))
    low, high = rules.rate_limits
    return [rate for rate in (best / 2, best * 2) if low <= rate <= high and rate not in scores], best


def choose(results: Results, cell: str, rules: Protocol) -> Choice:
    """Return what validation says of a cell that has rates of its own."""
    asks = results.asks
    steps, seeds = asks.steps, range(rules.selection_seeds)
    rows = {name: entry for name, entry in asks.rows(cell).items() if entry.method}
    more = results.primary
    sign = 1 if more is None or more.more_is_better else -1
    for doubling in range(rules.doublings + 1):
        scores, rates, wanted = dict[str, dict[float, float]](), dict[str, float](), list[tuple[str, float]]()
        for name, entry in rows.items():
            scores[name] = _scores(results, cell, entry, steps, rules)
            if entry.probe:
                tried, top = [] if NO_RATE in scores[name] else [NO_RATE], NO_RATE
            else:
                tried, top = next_rates(scores[name], rules, asks, sign)
            wanted += [(name, rate) for rate in tried]
            if not tried:
                rates[name] = top
        asked = [name for name in rules.converged_of if name in rows]
        # the rows that decide the length come first: the others need not search at a length that will not stay
        early = tuple(pair for pair in wanted if pair[0] in asked)
        found = {n: results.gain(cell, rows[n], steps, rates[n], seeds) for n in asked if n in rates}
        gains = {name: gain for name, gain in found.items() if gain is not None}
        short = any(gain >= rules.converged for gain in gains.values())
        if early or not short or doubling == rules.doublings:
            break
        steps *= 2
    return Choice(
        steps=steps,
        converged=not short,
        rates=rates,
        scores=scores,
        wanted=early or tuple(wanted),
        gains=gains,
    )


def preferred(results: Results, cell: str, entry: Entry, choice: Choice, rules: Protocol) -> str:
    """Return which of the rows that are to be compared validation prefers in a cell; empty while one is missing.

    A cell may take rates and length from another one; which row is best its own validation says.

    Args:
        entry: that is the best of others. choice: the cell's rates and length.
    """
    if not {*entry.best_of} <= choice.rates.keys():
        return ""
    seeds, rows = range(rules.selection_seeds), {row: results.asks.entries[row] for row in entry.best_of}
    scores = {r: results.validation(cell, one, choice.steps, choice.rates[r], seeds) for r, one in rows.items()}
    more = results.primary
    found = {row: more.goodness(score) for row, score in scores.items() if more is not None and score is not None}
    return max(found, key=found.__getitem__) if len(found) == len(rows) else ""


def missing(results: Results, rules: Protocol, seeds: int) -> Iterator[EvidenceJob]:
    """Yield the runs of an experiment that have no file, the most needed first.

    Args:
        seeds: how many, of every cell.
    """
    asks = results.asks

    def job(cell: str, entry: Entry, rate: float, steps: int, seed: int) -> EvidenceJob:
        return EvidenceJob(
            experiment=results.name, cell=cell, entry=entry, rate=rate, steps=steps, seed=seed, what=results.asks
        )

    seen: set[tuple[object, ...]] = set()
    for source in sources(asks):
        choice = choose(results, source, rules)
        found = [(source, asks.entries[row], rate, seed)
                 for row, rate in choice.wanted for seed in range(rules.selection_seeds)]  # fmt: skip
        if choice.done:
            cells = [cell for cell in asks.cells if asks.source(cell) == source]
            found = [(cell, asks.entries[row], rate, seed)
                     for seed in range(seeds) for cell in cells for row, rate in choice.rates.items()
                     if row in asks.rows(cell)]  # fmt: skip
        for cell, entry, rate, seed in found:
            key = (cell, entry.run, rate, choice.steps, seed)
            if key not in seen and results.get(cell, entry, choice.steps, rate, seed) is None:
                seen.add(key)
                yield job(cell, entry, rate, choice.steps, seed)


def _scores(results: Results, cell: str, entry: Entry, steps: int, rules: Protocol) -> dict[float, float]:
    tried = {key[3] for key in results.records if key[:3] == (cell, entry.run, steps)}
    found = {r: results.validation(cell, entry, steps, r, range(rules.selection_seeds)) for r in sorted(tried)}
    return {rate: value for rate, value in found.items() if value is not None}
