"""Rank self-pruning penalty (HetLoRA, arXiv 2401.06432): ``weight * sum ||B[:, t:]||_F ||A[t:, :]||_F``.

The tail of a site of rank r begins at ``t = floor(decay r)``, at most r - 1; a tail that the data does not need goes
to zero together. The norms have a finite gradient at zero, where B begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sitelora.regularizers.base import SiteView
from sitelora.sharing.ranks import SiteRanks


@dataclass(frozen=True, kw_only=True)
class RankTail:
    """Penalise the last rows of A and columns of B together.

    Args:
        weight: lambda. decay: gamma, the share of the rank that is left alone.
        ranks: of the sites; without them the rank of the factors.
    """

    weight: float
    decay: float = 0.75
    ranks: SiteRanks = field(default_factory=SiteRanks)

    largest_share: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}; expected 0 <= decay < 1")

    def start(self, view: SiteView) -> _TailPenalty:
        """Return the penalty for one pass."""
        return _TailPenalty(self, view)


class _TailPenalty:
    def __init__(self, rule: RankTail, view: SiteView) -> None:
        self._weight = rule.weight
        self._tails: list[tuple[Tensor, Tensor, slice]] = []
        for name, a in view.parameters.items():
            b = view.parameters.get(f"{name[:-1]}B") if name.endswith(".A") else None
            if b is not None:
                rank = rule.ranks.of(view.site) or a.shape[0]
                self._tails.append((b, a, slice(min(int(rule.decay * rank), rank - 1), rank)))

    def __call__(self) -> Tensor:
        """Return the fp32 scalar penalty; zero where there are no pairs."""
        if not self._tails:
            return torch.zeros(())
        terms = [_norm(b[:, tail]) * _norm(a[tail]) for b, a, tail in self._tails]
        return self._weight * torch.stack(terms).sum()

    def after_step(self) -> None:
        """Nothing to note."""


def _norm(x: Tensor) -> Tensor:
    """Return the Frobenius norm with a finite gradient at zero."""
    return (x.square().sum() + torch.finfo(torch.float32).tiny).sqrt()
