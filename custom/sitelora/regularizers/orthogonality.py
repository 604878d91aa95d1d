"""Orthogonality of a site's global and local adapter (FedOPAL, arXiv 2510.12741): of weights, or of what they give.

    weights           sum_l ||A_g A_l^T||_F^2                       the two read other directions of the input
    both_factors      sum_l ||A_g A_l^T||_F^2 + ||B_g^T B_l||_F^2   and write into others of the output
    representations   sum_l mean over tokens of cos^2(B_g A_g x, B_l A_l x)

The paper is known to have both variants; its formulae and weights are not public, so these are our choice, after O-LoRA
(arXiv 2310.14152). ``normalise`` divides by the squared norms of what is multiplied: then a term is at most 1 and does
not shrink with the factors. Products are r x r at most: with ``y = B u`` and ``u = A x``, ``<y_g, y_l>`` is ``u_g^T
(B_g^T B_l) u_l``. What a projection read is taken as given: a layer's term moves its own factors alone (our choice).

B is zero at first. Then the adapters give nothing, their cosine is 0 / 0 and counts as 0 with a gradient of zero; soon
after it, its gradient is as large as B is small. Its norm is therefore bounded by a share of the task's gradient over
the same tensors, as that of IAT's regularizer is (our choice), and what it was is in the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sitelora.regularizers.base import SiteView

WEIGHTS, BOTH_FACTORS, REPRESENTATIONS = VARIANTS = ("weights", "both_factors", "representations")
DEFAULT_WEIGHT = {WEIGHTS: 0.1, BOTH_FACTORS: 0.1, REPRESENTATIONS: 0.01}
"""Lambda of every variant, our choice."""
MOVES = ("both", "local")

_TINY = 1e-30
"""Keeps 0 / 0 away where an adapter gives nothing."""
_EPS = 1e-6
"""Added to the squared norms of outputs, in units of their upper bound, below which they are rounding."""


@dataclass(frozen=True, kw_only=True)
class DualOrthogonality:
    """Penalise what the two adapters of a projection have in common.

    Args:
        of: "weights", "both_factors" or "representations".
        weight: lambda; None is 0.1 on weights and 0.01 on representations, our choice.
        normalise: divide by the squared norms; None does so for representations (their cosine) and not for weights.
        moves: "both" adapters (our choice), or the "local" one alone, away from the global one.
        roles: of the shared and of the local adapter.
        largest_share: bound of its gradient in units of the task's; 0.5 is our choice, None leaves it unbounded.
    """

    of: str = WEIGHTS
    weight: float | None = None
    normalise: bool | None = None
    moves: str = "both"
    roles: tuple[str, str] = ("global", "local")
    largest_share: float | None = 0.5

    def __post_init__(self) -> None:
        for argument, value, allowed in (("of", self.of, VARIANTS), ("moves", self.moves, MOVES)):
            if value not in allowed:
                raise ValueError(f"orthogonality: {argument} is {value!r}; expected one of {', '.join(allowed)}")
        if self.largest_share is not None and not self.largest_share > 0:
            raise ValueError(f"largest_share is {self.largest_share}; expected a number above 0, or None for no bound")

    @property
    def factor(self) -> float:
        """Lambda as it is used."""
        return DEFAULT_WEIGHT[self.of] if self.weight is None else self.weight

    @property
    def normalises(self) -> bool:
        """Whether the squared norms are divided by."""
        return self.of == REPRESENTATIONS if self.normalise is None else self.normalise

    def start(self, view: SiteView) -> _OrthogonalityPenalty:
        """Return the penalty for one pass.

        Raises:
            ValueError: no projection has an adapter of both roles.
        """
        return _OrthogonalityPenalty(self, view)


class _OrthogonalityPenalty:
    def __init__(self, rule: DualOrthogonality, view: SiteView) -> None:
        self._rule, self._view = rule, view
        self._pairs = list(dual_pairs(view, rule.roles))
        if not self._pairs:
            raise ValueError(f"orthogonality: no projection has a pair of both roles, {' and '.join(rule.roles)}")
        if rule.of == REPRESENTATIONS:
            for host, _, _ in self._pairs:
                view.inputs.watch(host)

    def __call__(self) -> Tensor:
        """Return the fp32 scalar penalty of this step."""
        terms = [self._term(*pair) for pair in self._pairs]
        return self._rule.factor * torch.stack(terms).sum()

    def after_step(self) -> None:
        """Nothing to note."""

    def _term(self, host: str, shared: str, local: str) -> Tensor:
        a_g, b_g, a_l, b_l = (self._view.parameters[f"{name}.{factor}"] for name in (shared, local) for factor in "AB")
        if self._rule.moves == "local":
            a_g, b_g = a_g.detach(), b_g.detach()  # type: ignore[assignment]
        if self._rule.of == REPRESENTATIONS:
            x = self._view.inputs.of(host).flatten(0, -2).float()
            return _common_output(x @ a_g.T, b_g, x @ a_l.T, b_l, normalise=self._rule.normalises)
        term = _common_rows(a_g, a_l, normalise=self._rule.normalises)
        if self._rule.of == BOTH_FACTORS:
            term = term + _common_rows(b_g.T, b_l.T, normalise=self._rule.normalises)
        return term


def dual_pairs(view: SiteView, roles: tuple[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (projection, shared adapter, local adapter) by name, for every pair with a partner of the other role."""
    for name in sorted(view.parameters):
        host, role, rest = name.removesuffix(".A").rpartition(f".{roles[0]}")
        if name.endswith(".A") and role and (not rest or rest.startswith(".")):
            partner = f"{host}.{roles[1]}{rest}"
            if f"{partner}.A" in view.parameters:
                yield host, f"{host}{role}{rest}", partner


def _common_rows(one: Tensor, other: Tensor, *, normalise: bool) -> Tensor:
    """Return ``||M N^T||_F^2`` of ``[r, d]`` each; normalised by ``||M||_F^2 ||N||_F^2``."""
    common = (one @ other.T).square().sum()
    return common / (one.square().sum() * other.square().sum() + _TINY) if normalise else common


def _common_output(u: Tensor, b: Tensor, v: Tensor, c: Tensor, *, normalise: bool) -> Tensor:
    """Return the mean over tokens of ``<B u, C v>^2``, normalised that of the squared cosine; ``u, v [tokens, r]``."""
    inner = ((u @ (b.T @ c)) * v).sum(-1)
    if not normalise:
        return inner.square().mean()
    ours, theirs = ((w @ (m.T @ m) * w).sum(-1).clamp_min(0) for w, m in ((u, b), (v, c)))
    bound = b.detach().square().sum() * c.detach().square().sum() * (u.square().sum(-1) * v.square().sum(-1)).detach()
    return (inner.square() / (ours * theirs + _EPS * bound + _TINY)).mean()
