"""All pages of the benchmark, from the files of its runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sitelora.comparison.evidence.experiment import experiments, protocol
from sitelora.comparison.evidence.page import difference_text, p_text, write_page
from sitelora.comparison.evidence.protocol import write_protocol
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.verdicts import Rows, Verdict, verdicts
from sitelora.comparison.tables import markdown


def write_pages(out: Path) -> list[Path]:
    """Write the protocol's page, one of every experiment that has runs, and one of all claims; return them.

    Raises:
        ComparisonError: a file of a run that is none of today's protocol.
    """
    rules, folder = protocol(), out / "evidence"
    every = [Results.read(name, asks, out) for name, asks in experiments().items()]
    written = [write_protocol(out)]
    if not any(results.records for results in every):
        return written
    found = verdicts(every, rules)
    for results in every:
        if results.records:
            own = [one for one in found if one.experiment == results.name]
            written.append(write_page(results.name, Rows(results, rules), own, rules, folder))
    page = folder / "README.md"
    page.write_text(_overview(every, found), encoding="utf-8")
    return [*written, page]


def _overview(every: Sequence[Results], found: Sequence[Verdict]) -> str:
    linked = {r.name: f"[{r.asks.title}]({r.name}.md)" if r.records else r.asks.title for r in every}
    primary = [
        [linked[one.experiment], one.claim.text, difference_text(one.found), p_text(one.p), f"**{one.words}**"]
        for one in found
        if one.claim.primary
    ]
    other = [
        [linked[one.experiment], one.claim.text, difference_text(one.found), p_text(one.p), one.words]
        for one in found
        if not one.claim.primary and one.found is not None
    ]
    head = ["experiment", "claim", "difference [95 %]", "p", "verdict"]
    parts = [
        "<!-- written by `sitelora evidence --only-page`; do not edit -->\n\n# What became of the claims",
        f"The {len(primary)} primary claims of [the protocol](../protocol.md), one family, p corrected by Holm with "
        "those that have not run counted in. A refuted claim is a result. Differences are over patients and seeds, "
        "better is more.",
        markdown(head, primary),
        *(["## Exploratory: p not corrected, nothing is decided by these", markdown(head, other)] if other else []),
    ]
    return "\n\n".join(parts) + "\n"
