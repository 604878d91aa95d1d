"""All pages of the benchmark, from the files of its runs alone."""

from __future__ import annotations

from pathlib import Path

from sitelora.comparison.evidence.experiment import experiments, protocol
from sitelora.comparison.evidence.page import write_page
from sitelora.comparison.evidence.papers import write_papers
from sitelora.comparison.evidence.protocol import write_protocol
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.verdicts import Rows, verdicts


def write_pages(out: Path) -> list[Path]:
    """Write the protocol's page, one of every experiment that has runs, and what is known of the papers; return them.

    Raises:
        ComparisonError: a file of a run that is none of today's protocol.
    """
    rules, folder = protocol(), out / "evidence"
    every = [Results.read(name, asks, out) for name, asks in experiments().items()]
    found = verdicts(every, rules)
    written = [write_protocol(out), write_papers(every, found, rules, out)]
    for results in every:
        if results.records:
            own = [one for one in found if one.experiment == results.name]
            written.append(write_page(results.name, Rows(results, rules), own, rules, folder))
    return written
