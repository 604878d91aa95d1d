"""What of an experiment is still to be made: the runs of its seeds, then further seeds while a claim is unsure."""

from __future__ import annotations

from collections.abc import Iterator

from sitelora.comparison.evidence.experiment import Protocol
from sitelora.comparison.evidence.job import EvidenceJob
from sitelora.comparison.evidence.plan import missing
from sitelora.comparison.evidence.results import Results, seeds_of
from sitelora.comparison.evidence.verdicts import unsettled


def first_runs(results: Results, rules: Protocol) -> Iterator[EvidenceJob]:
    """Yield the missing runs of the seeds that the experiment has whatever comes out, the most needed first."""
    if not results.asks.not_built:
        yield from missing(results, rules, seeds_of(results.asks, rules)[0])


def further_runs(results: Results, rules: Protocol) -> Iterator[EvidenceJob]:
    """Yield the missing runs of further seeds: none before the first ones are there, or where claims are settled."""
    seeds, most = seeds_of(results.asks, rules)
    if results.asks.not_built or next(first_runs(results, rules), None) is not None:
        return
    while seeds < most and unsettled(results, rules):
        seeds += 1
        more = list(missing(results, rules, seeds))
        yield from more
        if more:
            return


def runs_left(results: Results, rules: Protocol) -> int:
    """Return how many runs are missing, as far as one can tell now."""
    return len(list(first_runs(results, rules))) or len(list(further_runs(results, rules)))
