"""What a page says of a claim: its difference, its p, and for a clinician: is there a gain, how sure, what leaves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from sitelora.comparison.evidence.estimate import Estimate
from sitelora.comparison.evidence.experiment import REFERENCE, SAME, Protocol
from sitelora.comparison.evidence.verdicts import HELD, OTHERS, REVERSED, UNJUDGED, Rows, Verdict
from sitelora.report.format_values import bytes_text, count_text, listed


def difference_text(one: Estimate | None, *, alpha: float = 0.05) -> str:
    """Return ``mean [interval]``, better is more; the interval holds 1 - alpha."""
    if one is None:
        return ""
    bounds = one.interval(alpha)
    return f"{one.mean:+.3f}" + (f" [{bounds[0]:+.3f}, {bounds[1]:+.3f}]" if bounds else "")


def claim_text(one: Verdict, rules: Protocol) -> str:
    """Return a claim's difference; of equality with the interval of its two one-sided tests, which is said."""
    if one.claim.kind != SAME or one.found is None or one.found.error is None:
        return difference_text(one.found)
    return f"{difference_text(one.found, alpha=2 * rules.alpha)} ({100 - 200 * rules.alpha:g} %)"


def p_text(p: float | None) -> str:
    """Return a p value as people read it."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_of(one: Verdict) -> str:
    """Return a claim's p as people read it; while others of the family have not run, the largest it can be."""
    return f"at most {p_text(one.p)}" if one.words == OTHERS and one.p is not None else p_text(one.p)


_ANSWERS = {
    HELD: "Yes, here",
    REVERSED: "No, here it loses",
    OTHERS: "Measured and not judged yet, because it is corrected together with announced questions that have not run",
}
"""To whether a hospital gains; anything else was not shown."""


def plain_lines(rows: Rows, found: Sequence[Verdict], where: str = "../..") -> list[str]:
    """Return three lines for a clinician on the first claim that is judged: is there a gain, how sure, what leaves.

    One more where the cells stand on an axis, up to where there is one, and one where another network was trained alone
    in the same cells. Of a claim whose runs are all in, while others of its family have not run, they say so.

    Where an experiment has announced main questions a side question does not answer in their place, and a comparison of
    two methods does not answer what joining brings.

    Args:
        found: verdicts. where: from the page to the folder of the documents.
    """
    main, primary = [one for one in found if one.claim.primary] or list(found), rows.results.primary
    judged = [one for one in main if one.found is not None and one.words not in UNJUDGED]
    judged += [one for one in main if one.found is not None and one.words == OTHERS]
    first = next((one for one in judged if _against_alone(one)), next(iter(judged), None))
    if first is None or first.found is None or primary is None:
        return ["**Would my hospital gain?** Not known yet: the runs that answer it are not all made."]
    one = first.found
    score = f"{claim_text(first, rows.rules)} {primary.title}"
    told = f"{first.claim.text}: {score} ({first.words})"
    if first.words == OTHERS:
        told = f"The claim *{first.claim.text}* stands at {score}"
    alone = _against_alone(first)
    if alone:
        word = _ANSWERS.get(first.words, "Not shown here")
        told = f"{word}. {told}"
    else:
        told = f"This experiment does not ask that; it asks how methods differ. {told}"
    by = " by this method" if first.claim.paper and alone else ""
    announced = sum(one.claim.primary for one in found)
    kind = {0: "exploratory, no question of it was announced", 1: "the announced main question"}.get(
        announced, f"one of {announced} announced questions"
    )
    lines = [
        f"**Would my hospital gain{by}?** {told}.",
        f"**How sure?** {count_text(one.patients, rows.results.asks.counted)}, "
        f"{count_text(one.seeds, 'repetition')}, p {p_of(first) or 'n/a'}; {kind}. Other hospitals, scanners and "
        "tasks may differ from these.",
        _leaves(rows, first, where),
        *(_up_to_where(rows, first) if alone else []),
        *(_without(rows, first) if alone else []),
    ]
    return ["\n".join(f"- {line}" for line in lines)]


def _against_alone(one: Verdict) -> bool:
    """Say whether a claim is that something is above a site alone."""
    less = {term.partition("/")[2] for term, weight in one.claim.terms.items() if weight < 0}
    return one.claim.kind != SAME and less == {REFERENCE}


def _first_row(verdict: Verdict) -> tuple[str, str]:
    """Return cell and row of the first term that a claim says is above another one."""
    cell, _, row = next(term for term, weight in verdict.claim.terms.items() if weight > 0).partition("/")
    return cell, row


def _up_to_where(rows: Rows, verdict: Verdict) -> list[str]:
    """Return the gain of a claim's row at every place of the experiment's axis, and where it is told apart."""
    asks, sites = rows.results.asks, verdict.claim.sites
    _, row = _first_row(verdict)
    places = sorted((cell.at, name) for name, cell in asks.cells.items() if cell.at is not None)
    there = {at: one for at, name in places if (one := rows.above_alone(name, row, sites)) is not None}
    if len(there) < 2:
        return []
    apart = [f"{at:g}" for at, one in there.items() if one.mean > 0 and one.told_apart()]
    told = ", ".join(f"{one.mean:+.3f} at {at:g}" for at, one in there.items())
    return [
        f"**Up to where?** By {asks.axis}: {told}; a gain is told apart from none at {listed(apart) or 'none of them'} "
        "(exploratory, each by itself)."
    ]


def _without(rows: Rows, verdict: Verdict) -> list[str]:
    """Return what a network other than the adapted one does alone, against what a claim says is above a site alone."""
    asks, claim = rows.results.asks, verdict.claim
    more = {term: weight for term, weight in claim.terms.items() if weight > 0}
    for row, entry in asks.entries.items():
        if entry.bundle and all(row in asks.rows(term.partition("/")[0]) for term in more):
            terms = {f"{term.partition('/')[0]}/{row}": weight for term, weight in more.items()}
            found = rows.difference(
                {**terms, **{term: -weight for term, weight in more.items()}}, over=claim.over, sites=claim.sites
            )
            if found is not None:
                title = rows.results.primary.title if rows.results.primary else ""
                return [
                    f"**And a small network of one's own?** `{row}`, trained alone from nothing for as long, against "
                    f"that federated model: {difference_text(found)} {title} (exploratory)."
                ]
    return []


def _leaves(rows: Rows, verdict: Verdict, where: str) -> str:
    """Return what leaves a hospital for the first row of a claim."""
    cell, row = _first_row(verdict)
    if rows.results.asks.newcomers:
        return (
            "**What leaves?** Nothing leaves a hospital that comes later: it is given a model, and trains on its own."
        )
    record = next(iter(rows.records(cell, row).values()))
    blocks = [block for site, block in record["sites"].items() if site in rows.results.asks.asked()]
    up = statistics.fmean(block["bytes_up"] for block in blocks)
    number = max(1, len(record["rounds"]))
    return (
        f"**What leaves?** No image and no label: numbers of the adapted layers, {bytes_text(up)} a site in all "
        f"{number} rounds (`{rows.resolved(cell, row)}`), and scores. [What that can give away]({where}/privacy.md)."
    )
