"""What became of every claim: differences of rows from the runs' files, one corrected family, verdicts in words."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sitelora.comparison.evidence.estimate import Estimate, Seed, estimate, margin_of
from sitelora.comparison.evidence.experiment import REFERENCE, SAME, Claim, Entry, Protocol
from sitelora.comparison.evidence.plan import Choice, choose, preferred
from sitelora.comparison.evidence.results import Record, Results, bytes_sent, model_of, seeds_of
from sitelora.comparison.scores import holm

HELD, REVERSED, APART, OPEN = "held", "the other way round", "not told apart", "not run yet"
FEW = "too few runs for a test"
NO_MARGIN = "no margin: the reference gains nothing over the base"
NO_BASE = "no margin: the base was not scored"
PART, MORE = "not all repetitions are in", "further repetitions are asked for"
OTHERS = "not judged yet: others of the family have not run"
UNJUDGED = frozenset((OPEN, FEW, PART, MORE, OTHERS, NO_BASE))
"""Words of claims that may still become anything."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one claim.

    Attributes:
        claim: the claim. experiment: its name. found: the difference, better is more; None where runs are missing.
        p: of a primary claim, corrected over the family; else as it is. margin: of an equality; None where the
            reference gains nothing. bytes_share: sent by the rows of positive weight, of what those of negative send.
        words: held, the other way round, and so on.
    """

    claim: Claim
    experiment: str
    found: Estimate | None
    p: float | None
    margin: float | None
    bytes_share: float | None
    words: str


class Rows:
    """Rows of an experiment at what validation chose for them.

    Args:
        results: of the experiment. rules: the protocol.
    """

    def __init__(self, results: Results, rules: Protocol) -> None:
        self.results, self.rules = results, rules
        self._choices: dict[str, Choice] = {}
        self._best: dict[tuple[str, str], str] = {}

    def choice(self, cell: str) -> Choice:
        """Return what was chosen for a cell, there or where it takes it from."""
        source = self.results.asks.source(cell)
        if source not in self._choices:
            self._choices[source] = choose(self.results, source, self.rules)
        return self._choices[source]

    def resolved(self, cell: str, row: str) -> str:
        """Return the row itself, or what it is the best of; empty where that is not known yet."""
        entry = self.results.asks.entries[row]
        if not entry.best_of:
            return row
        if (cell, row) not in self._best:
            self._best[cell, row] = preferred(self.results, cell, entry, self.choice(cell), self.rules)
        return self._best[cell, row]

    def records(self, cell: str, row: str) -> dict[int, Record]:
        """Return a row's runs at its chosen rate, by seed; none before rates and length are settled."""
        choice, row = self.choice(cell), self.resolved(cell, row)
        if not choice.done or row not in choice.rates:
            return {}
        entry, rate = self.results.asks.entries[row], choice.rates[row]
        found = {
            seed: self.results.get(cell, entry, choice.steps, rate, seed)
            for seed in self.results.seeds(cell, entry, choice.steps, rate)
        }
        return {seed: record for seed, record in found.items() if record is not None}

    def entry(self, cell: str, row: str) -> Entry:
        """Return the entry of a row, resolved."""
        return self.results.asks.entries[self.resolved(cell, row) or row]

    def difference(
        self,
        terms: Mapping[str, float],
        *,
        over: float = 1.0,
        sites: Sequence[str] = (),
        pairs: Collection[tuple[int, str]] | None = None,
        model: str = "",
    ) -> Estimate | None:
        """Return a weighted sum of rows, better is more, over the seeds, sites and cases that all of them have.

        Args:
            terms: weight by ``CELL/ROW``. over: what the sum is divided by. sites: whose cases; all by default.
            pairs: of seed and site, to look at no others. model: in place of the one that a row says; None is returned
                where a run has none of it.
        """
        primary = self.results.primary
        found: dict[tuple[str, str, float], Mapping[int, Record]] = {}
        for term, weight in terms.items():
            cell, _, row = term.partition("/")
            found[cell, row, weight] = self.records(cell, row)
        shared = sorted(set.intersection(*(set(by_seed) for by_seed in found.values()))) if found else []
        seeds, patients = list[Seed](), dict[str, dict[str, str]]()
        for seed in shared:
            there = set.intersection(*(set(by_seed[seed]["sites"]) for by_seed in found.values()))
            table: dict[str, dict[str, float]] = {}  # parts of one hospital are one stratum: a seed cuts them anew
            for site in sorted(there & set(sites) if sites else there):
                if pairs is not None and (seed, site) not in pairs:
                    continue
                total, whole = dict[str, float](), self.results.asks.whole(site)
                for (cell, row, weight), by_seed in found.items():
                    block = by_seed[seed]["sites"][site]
                    if model and model not in block["models"]:
                        return None
                    scores = model_of(block, model or self.entry(cell, row).model)["cases"]
                    values = dict(zip(block["names"], scores, strict=True))
                    if total and total.keys() != values.keys():
                        raise ValueError(f"{self.results.name}, seed {seed}, {site}: rows of other test cases")
                    total = {case: total.get(case, 0.0) + weight / over * value for case, value in values.items()}
                    patients.setdefault(whole, {}).update(zip(block["names"], block["patients"], strict=True))
                good = {case: primary.goodness(value) for case, value in total.items()} if primary else total
                table.setdefault(whole, {}).update(good)
            if table:
                seeds.append(Seed(sites=table, fold=by_seed_fold(found, seed)))
        return estimate(seeds, patients) if seeds else None

    def of(self, claim: Claim) -> Estimate | None:
        """Return a claim's difference."""
        return self.difference(claim.terms, over=claim.over, sites=claim.sites)

    def above_alone(self, cell: str, row: str, sites: Sequence[str]) -> Estimate | None:
        """Return how much a row is above a site alone in a cell; None where the cell has not both."""
        if not {row, REFERENCE} <= self.results.asks.rows(cell).keys():
            return None
        return self.difference({f"{cell}/{row}": 1.0, f"{cell}/{REFERENCE}": -1.0}, sites=sites)

    def base(self, cell: str, sites: Sequence[str]) -> float | None:
        """Return the mean score of the experiment's own base over sites, every seed once; better is more.

        None where no run of the cell scored it: rows that stand on something else do not count.
        """
        asks, primary, means = self.results.asks, self.results.primary, dict[int, float]()
        own = {entry.run for entry in asks.entries.values() if not (entry.random or entry.base or entry.bundle)}
        for key, record in self.results.records.items():
            blocks = [block for site, block in record["sites"].items() if not sites or site in sites]
            found = [
                statistics.fmean(block["models"]["base"]["cases"]) for block in blocks if "base" in block["models"]
            ]
            if key[0] == cell and key[1] in own and found:
                means[key[4]] = statistics.fmean(found)
        return primary.goodness(statistics.fmean(means.values())) if means and primary else None


def by_seed_fold(found: Mapping[tuple[str, str, float], Mapping[int, Record]], seed: int) -> int:
    """Return the fold of a seed's runs."""
    return int(next(iter(found.values()))[seed]["fold"])


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """A claim before the family is corrected: ``p`` is as it is, ``waits`` says why it cannot be judged yet."""

    experiment: str
    claim: Claim
    found: Estimate | None
    margin: float | None = None
    p: float | None = None
    share: float | None = None
    waits: str = ""


def verdicts(every: Sequence[Results], rules: Protocol) -> list[Verdict]:
    """Return the verdict on every claim of all experiments: the family is corrected as a whole, whatever has run."""
    raw = [one for results in every for one in _tested(results, rules)]
    primary = [number for number, one in enumerate(raw) if one.claim.primary]
    ready = {number: one.p for number, one in enumerate(raw) if one.p is not None and not one.waits}
    corrected = ready | holm({number: ready.get(number, 1.0) for number in primary})
    best_case = ready | holm({number: ready.get(number, 0.0) for number in primary})  # all that are to come hold
    found = []
    for number, one in enumerate(raw):
        told = corrected[number] if number in ready else None
        words = one.waits or _words(one, told, rules)
        if number in ready and words != _words(one, best_case[number], rules):
            words = OTHERS
        found.append(
            Verdict(
                claim=one.claim,
                experiment=one.experiment,
                found=one.found,
                p=told,
                margin=one.margin,
                bytes_share=one.share,
                words=words,
            )
        )
    return found


def unsettled(results: Results, rules: Protocol) -> bool:
    """Say whether further seeds are asked for: a primary difference is unsure, while there are fewer seeds than there
    may be.
    """
    rows = Rows(results, rules)
    return any(_asks_for_more(rows, claim, rows.of(claim)) for claim in results.asks.claims)


def _asks_for_more(rows: Rows, claim: Claim, found: Estimate | None) -> bool:
    most = seeds_of(rows.results.asks, rows.rules)[1]
    counts = claim.primary and claim.kind != SAME
    return counts and found is not None and found.seeds < most and found.unsure(rows.rules.settled)


def same(found: Estimate, gain: float, rules: Protocol) -> tuple[float | None, float | None]:
    """Return the margin within which a difference counts as none, and the p of two one-sided tests that it is there.

    Args:
        found: the difference. gain: of the reference over the base; where it has none there is no margin.
    """
    margin = margin_of(gain, largest=rules.margin, share=rules.margin_share)
    return margin, None if margin is None else found.equals(margin)


def same_in_words(margin: float | None, p: float | None, rules: Protocol) -> str:
    """Return what became of a claim of equality."""
    if margin is None:
        return NO_MARGIN
    return HELD if p is not None and p < rules.alpha else "did not hold: not shown to be equal"


def _tested(results: Results, rules: Protocol) -> list[_Tested]:
    """Return an experiment's claims with what is found of each, and why it has to wait."""
    rows, fewest = Rows(results, rules), seeds_of(results.asks, rules)[0]
    claims = [(claim, rows.of(claim)) for claim in results.asks.claims]
    more = any(_asks_for_more(rows, claim, found) for claim, found in claims)
    tested = []
    for claim, found in claims:
        one = _Tested(experiment=results.name, claim=claim, found=found, waits="" if found else OPEN)
        if found is not None:
            one = replace(one, share=_bytes_share(rows, claim), **_test(rows, claim, found))
            if found.seeds < fewest or (more and claim.primary):
                one = replace(one, waits=PART if found.seeds < fewest else MORE)
        tested.append(one)
    return tested


def _test(rows: Rows, claim: Claim, found: Estimate) -> dict[str, Any]:
    """Return p, and of an equality the margin; why it waits where that cannot be known."""
    if claim.kind != SAME:
        return {"p": found.differs()}
    against = {term: -weight for term, weight in claim.terms.items() if weight < 0}
    reference = rows.difference(against, over=sum(against.values()), sites=claim.sites)
    bases = [rows.base(term.partition("/")[0], claim.sites) for term in against]
    if reference is None or None in bases:
        return {"waits": NO_BASE}
    gain = reference.mean - statistics.fmean(base for base in bases if base is not None)
    margin, p = same(found, gain, rows.rules)
    return {"margin": margin, "p": p}


def _bytes_share(rows: Rows, claim: Claim) -> float | None:
    sent: dict[bool, list[float]] = {True: [], False: []}
    for term, weight in claim.terms.items():
        for record in rows.records(*term.split("/")).values():
            sent[weight > 0].append(bytes_sent(record, "bytes_up"))
    if not sent[True] or not sent[False] or not any(sent[False]):
        return None
    return statistics.fmean(sent[True]) / statistics.fmean(sent[False])


def _words(one: _Tested, p: float | None, rules: Protocol) -> str:
    """Return what became of a claim that need not wait, at a p."""
    if one.claim.bytes_at_most is not None and (one.share is None or one.share > one.claim.bytes_at_most):
        return "did not hold: too many bytes"
    if one.claim.kind == SAME:
        return same_in_words(one.margin, p, rules)
    if p is None:
        return FEW
    if p >= rules.alpha:
        return APART
    return HELD if one.found is not None and one.found.mean > 0 else REVERSED
