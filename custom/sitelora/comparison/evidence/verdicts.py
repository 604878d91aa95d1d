"""What became of every claim: differences of rows from the runs' files, one corrected family, verdicts in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sitelora.comparison.evidence.estimate import Estimate, Seed, estimate, margin_of
from sitelora.comparison.evidence.experiment import SAME, Claim, Entry, Protocol
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


def verdicts(every: Sequence[Results], rules: Protocol) -> list[Verdict]:
    """Return the verdict on every claim of all experiments: the family is corrected as a whole, whatever has run."""
    raw = []
    for results in every:
        rows = Rows(results, rules)
        raw += [(results.name, claim, *_tested(rows, claim, rules)) for claim in results.asks.claims]
    asks = {results.name: results for results in every}
    more = {results.name for results in every if unsettled(results, rules)}
    waits = [_waits(one[2], one[1], asks[one[0]], one[0] in more, rules) for one in raw]
    primary = [number for number, one in enumerate(raw) if one[1].primary]
    ready = {number: one[4] for number, one in enumerate(raw) if one[4] is not None and not waits[number]}
    corrected = holm({number: ready.get(number, 1.0) for number in primary})
    best_case = holm({number: ready.get(number, 0.0) for number in primary})  # all that are still to come hold
    found = []
    for number, (name, claim, difference, margin, _, share) in enumerate(raw):
        told = corrected[number] if claim.primary and number in ready else ready.get(number)
        words = waits[number] or _words(claim, difference, margin, told, share, rules)
        if claim.primary and number in ready and _below(best_case[number], rules) and not _below(told, rules):
            words = OTHERS
        one = {"margin": margin, "bytes_share": share, "words": words}
        found.append(Verdict(claim=claim, experiment=name, found=difference, p=told, **one))  # type: ignore[arg-type]
    return found


def _below(p: float | None, rules: Protocol) -> bool:
    return p is not None and p < rules.alpha


def unsettled(results: Results, rules: Protocol) -> bool:
    """Say whether further seeds are asked for: a primary difference is below two standard errors, and these are above
    what counts as settled, while there are fewer seeds than there may be.
    """
    rows, most = Rows(results, rules), seeds_of(results.asks, rules)[1]
    for claim in results.asks.claims:
        if claim.primary and claim.kind != SAME:
            found = rows.difference(claim.terms, over=claim.over, sites=claim.sites)
            if found is not None and found.error is not None and found.seeds < most:
                twice = 2 * found.error
                if abs(found.mean) < twice and twice > rules.settled:
                    return True
    return False


def _waits(found: Estimate | None, claim: Claim, results: Results, more: bool, rules: Protocol) -> str:
    """Return why a claim is not judged yet though there are runs: seeds are missing, or more are asked for."""
    if found is None:
        return ""
    if found.seeds < seeds_of(results.asks, rules)[0]:
        return PART
    return MORE if claim.primary and more else ""


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


def _tested(
    rows: Rows, claim: Claim, rules: Protocol
) -> tuple[Estimate | None, float | None, float | None, float | None]:
    """Return difference, margin, uncorrected p and share of bytes."""
    found = rows.difference(claim.terms, over=claim.over, sites=claim.sites)
    if found is None:
        return None, None, None, None
    share = _bytes_share(rows, claim)
    if claim.kind != SAME:
        return found, None, found.differs(), share
    against = {term: -weight for term, weight in claim.terms.items() if weight < 0}
    reference = rows.difference(against, over=sum(against.values()), sites=claim.sites)
    bases = [rows.base(term.partition("/")[0], claim.sites) for term in against]
    if reference is None or None in bases:
        return found, math.nan, None, share
    gain = reference.mean - statistics.fmean(base for base in bases if base is not None)
    return found, *same(found, gain, rules), share


def _bytes_share(rows: Rows, claim: Claim) -> float | None:
    sent: dict[bool, list[float]] = {True: [], False: []}
    for term, weight in claim.terms.items():
        for record in rows.records(*term.split("/")).values():
            sent[weight > 0].append(bytes_sent(record, "bytes_up"))
    if not sent[True] or not sent[False] or not any(sent[False]):
        return None
    return statistics.fmean(sent[True]) / statistics.fmean(sent[False])


def _words(
    claim: Claim,
    found: Estimate | None,
    margin: float | None,
    p: float | None,
    share: float | None,
    rules: Protocol,
) -> str:
    if found is None:
        return OPEN
    if claim.bytes_at_most is not None and (share is None or share > claim.bytes_at_most):
        return "did not hold: too many bytes"
    if claim.kind == SAME:
        return NO_BASE if margin is not None and math.isnan(margin) else same_in_words(margin, p, rules)
    if p is None:
        return FEW
    if p >= rules.alpha:
        return APART
    return HELD if found.mean > 0 else REVERSED
