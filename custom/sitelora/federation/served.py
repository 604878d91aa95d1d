"""Which model a site is served: the newest that its own validation does not show to be worse than the best it had.

Received is what came with the server's last message (with the site's own local tensors), trained is what the site's
last round ended with, previous is what it was served before. A difference that a handful of validation cases cannot
tell from chance decides nothing: a newer model stands aside only where the best one's cases are better by more than the
standard error of the paired difference (our choice, after the one-standard-error rule of Breiman et al., 1984, 3.4.3);
with one case the plain score decides. The best scores that the site ever had stay in the comparison, so that no row of
small steps leads down. A site without validation cases has nothing to judge by and is served the trained one; the
record says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sitelora.method import Model
from sitelora.metric import Metric
from sitelora.server.types import LowRank

RECEIVED, TRAINED, PREVIOUS = "received", "trained", "previous"
KINDS = (RECEIVED, TRAINED, PREVIOUS)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that a site could be served.

    Attributes:
        kind: RECEIVED, TRAINED or PREVIOUS. model: the model.
        round_number: the round that it was received for or trained in, from 0.
        cases: primary score of every validation case of the site, in one order; empty where it has none.
    """

    kind: str
    model: Model
    round_number: int
    cases: tuple[float, ...] = ()

    @property
    def score(self) -> float | None:
        """Mean over the validation cases; None where the site has none."""
        return statistics.fmean(self.cases) if self.cases else None


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a site is served, and what it was chosen from.

    Attributes:
        candidate: the chosen one.
        scores: of all candidates, by kind.
        best: scores of the validation cases of the best model that the site had; the chosen one's own, or better by
            chance at most.
        primary: what the scores are of.
    """

    candidate: Candidate
    scores: Mapping[str, float | None] = field(default_factory=dict)
    best: tuple[float, ...] = ()
    primary: Metric

    @property
    def why(self) -> str:
        """Return in a few words why it is this one."""
        score = self.candidate.score
        if score is None:
            return "no validation cases: the trained model, unjudged"
        if not self.primary.better(statistics.fmean(self.best), score):
            return "best by the site's validation cases"
        return "newest of those that validation does not tell apart from the best"

    def to_json(self) -> dict[str, Any]:
        """Return what the record says of it: plain numbers and short words."""
        chosen = self.candidate
        return {
            "model": chosen.kind,
            "round": chosen.round_number,
            "validation": chosen.score,
            **{f"validation_{kind}": score for kind, score in self.scores.items()},
            "why": self.why,
        }

    def kept(self) -> dict[str, Any]:
        """Return what the site's state keeps beside the model, for the next choice."""
        chosen = self.candidate
        return {
            "kind": chosen.kind,
            "round": chosen.round_number,
            "score": chosen.score,
            "cases": list(chosen.cases),
            "best": list(self.best),
        }


def choose(newest_first: Sequence[Candidate], *, primary: Metric, best: Sequence[float] = ()) -> Served:
    """Return what is served: the first that is not clearly worse than the best.

    Args:
        newest_first: at most one of a kind; scores are there for all or for none.
        primary: what the scores are of, and which way is better.
        best: case scores of the best model that the site ever had, whether or not it is still there.

    Raises:
        ValueError: no candidate.
    """
    if not newest_first:
        raise ValueError("no model to choose from: a site is served after it has received or trained one")
    scores = {candidate.kind: candidate.score for candidate in newest_first}
    if not newest_first[0].cases:
        trained = [candidate for candidate in newest_first if candidate.kind == TRAINED]
        return Served(candidate=(trained or list(newest_first))[0], scores=scores, primary=primary)
    seen = [candidate.cases for candidate in newest_first]

    def goodness(cases: Sequence[float]) -> float:
        return primary.goodness(statistics.fmean(cases))

    top = max([*seen, tuple(best)] if best else seen, key=goodness)
    sound = [candidate for candidate in newest_first if not primary.clearly_better(top, candidate.cases)]
    # the best one may be gone, and what was kept for it not be quite so good: then the best of those that are there
    chosen = sound[0] if sound else max(newest_first, key=lambda candidate: goodness(candidate.cases))
    return Served(candidate=chosen, scores=scores, best=top, primary=primary)


def to_tensors(model: Model) -> dict[str, Tensor]:
    """Return a model's tensors by name, ``values/<tensor>`` and ``delta/<adapter>.B`` or ``.A``, to be kept."""
    delta: Mapping[str, LowRank] = model.base_delta
    factors = {f"delta/{name}.{'BA'[i]}": factor for name, pair in delta.items() for i, factor in enumerate(pair)}
    return {**{f"values/{name}": tensor for name, tensor in model.values.items()}, **factors}


def from_tensors(tensors: Mapping[str, Tensor], strengths: Mapping[str, float]) -> Model:
    """Undo ``to_tensors``; the strengths are the method's and not kept."""
    values = {n.removeprefix("values/"): t for n, t in tensors.items() if n.startswith("values/")}
    names = sorted(n.removeprefix("delta/")[: -len(".B")] for n in tensors if n.startswith("delta/") and n[-2:] == ".B")
    return Model(values, {n: (tensors[f"delta/{n}.B"], tensors[f"delta/{n}.A"]) for n in names}, strengths)
