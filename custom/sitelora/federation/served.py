"""Which model a site is served: the better of the received, the trained and the previous one, by its own validation.

A site is never served something worse than it had. Received is what came with the server's last message (with the
site's own local tensors), trained is what the site's last round ended with, previous is what it was served before. On
equal scores the order is that one (our choice: what the federation made comes first). A site without validation cases
has nothing to judge by and is served the trained one; the record says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sitelora.method import Model
from sitelora.server.types import LowRank

RECEIVED, TRAINED, PREVIOUS = "received", "trained", "previous"
ORDER = (RECEIVED, TRAINED, PREVIOUS)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that a site could be served.

    Attributes:
        kind: RECEIVED, TRAINED or PREVIOUS. model: the model.
        round_number: the round that it was received for or trained in, from 0.
        score: of the site's validation cases, more is better; None where it has none.
    """

    kind: str
    model: Model
    round_number: int
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a site is served, and what it was chosen from.

    Attributes:
        candidate: the chosen one.
        scores: of all candidates, by kind.
    """

    candidate: Candidate
    scores: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """Return in a few words why it is this one."""
        if self.candidate.score is None:
            return "no validation cases: the trained model, unjudged"
        return "best by the site's validation cases"

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


def choose(candidates: Sequence[Candidate]) -> Served:
    """Return what is served.

    Args:
        candidates: at most one of a kind; scores are there for all or for none.

    Raises:
        ValueError: no candidate.
    """
    if not candidates:
        raise ValueError("no model to choose from: a site is served after it has received or trained one")
    ordered = sorted(candidates, key=lambda c: ORDER.index(c.kind))
    scores = {candidate.kind: candidate.score for candidate in ordered}
    judged = [candidate for candidate in ordered if candidate.score is not None]
    if judged:
        return Served(candidate=max(judged, key=lambda c: c.score or 0.0), scores=scores)
    trained = [candidate for candidate in ordered if candidate.kind == TRAINED]
    return Served(candidate=trained[0] if trained else ordered[-1], scores=scores)


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
