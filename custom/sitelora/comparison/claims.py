"""What the papers claim of their methods (``claims.toml``), as differences that a comparison can show or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from sitelora.comparison.data_files import read_toml
from sitelora.comparison.runs import Runs
from sitelora.comparison.scores import Difference, paired_differences
from sitelora.metric import Metric

EQUAL = 0.01
"""Widest interval of a difference of primary scores that counts as equal; our choice."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim about two methods.

    Args:
        text: the claim in words.
        method, against: as in `sitelora compare --methods`.
        equal: the claim is that both are equally good; otherwise that the first is better.
    """

    text: str
    method: str
    against: str
    equal: bool = False

    def verdict(self, found: Difference, primary: Metric) -> str:
        """Return ``held``, ``did not hold``, ``the other way round`` or why nothing can be said.

        Args:
            found: the difference of the two methods. primary: what it is of.
        """
        better, worse = ("above", "below") if primary.more_is_better else ("below", "above")
        if found.interval is None or found.p is None:
            return found.verdict
        if self.equal:
            if found.interval[0] > -EQUAL and found.interval[1] < EQUAL:
                return "held"
            return "did not hold: better" if found.verdict == better else "did not hold"
        return {better: "held", worse: "the other way round"}.get(found.verdict, "did not hold: not told apart")


@dataclass(frozen=True, kw_only=True)
class _File:
    claims: Sequence[Claim]


CLAIMS = read_toml(_File, files("sitelora.comparison") / "claims.toml").claims


def examined(runs: Runs) -> dict[Claim, dict[str, Difference]]:
    """Return every claim of which both methods ran, with the difference at every site and over all."""
    claims = [claim for claim in CLAIMS if {claim.method, claim.against} <= runs.by_method.keys()]
    found = paired_differences(runs, [(claim.method, claim.against) for claim in claims])
    return {claim: found[claim.method, claim.against] for claim in claims}
