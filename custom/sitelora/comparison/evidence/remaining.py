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
    """Yield the missing runs of further seeds, of every fold one more; none where the claims are settled.

    None either before the first ones of what is claimed are there. A row that no primary claim is about does not hold
    them up: one that cannot run here would do so for ever.
    """
    seeds, most = seeds_of(results.asks, rules)
    claimed = _claimed(results)
    if results.asks.not_built or any((job.cell, job.entry.run) in claimed for job in first_runs(results, rules)):
        return
    while seeds < most and unsettled(results, rules):
        seeds = min(most, seeds + results.asks.folds)
        more = list(missing(results, rules, seeds))
        yield from more
        if any((job.cell, job.entry.run) in claimed for job in more):
            return


def _claimed(results: Results) -> set[tuple[str, str]]:
    """Return cell and run of every row that a primary claim is about; of a best row, all that it may be."""
    entries, found = results.asks.entries, set[tuple[str, str]]()
    for claim in results.asks.claims:
        for term in claim.terms if claim.primary else ():
            cell, _, row = term.partition("/")
            found |= {(cell, entries[one].run) for one in entries[row].best_of or (row,)}
    return found


def runs_left(results: Results, rules: Protocol) -> int:
    """Return how many runs are missing, as far as one can tell now."""
    return len({str(job) for job in (*first_runs(results, rules), *further_runs(results, rules))})
