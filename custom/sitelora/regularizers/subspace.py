"""Subspace orthogonality regularizer, SOR (IAT, arXiv 2606.08687).

Per adapter, with anchors ``A0, B0`` (detached factors at the start of the round) and ``dA, dB`` (moving average of
the local factor's drift within the round), the squared cosine of two r x r proxies:

    encoder side (B shared, A local):  P_sh = B0^T (B - B0)      P_lo = dA A0^T
    decoder side (A shared, B local):  P_sh = (A - A0) A0^T      P_lo = B0^T dB

To first order these are the shared-induced and the local-induced change of the product ``B A``:
``<(B-B0) A0, B0 dA> = <B0^T (B-B0), dA A0^T>``. The explicit proxies are our reconstruction: the paper's are not
public. Everything about the local factor is detached, so the gradient reaches the shared factor only.

A cosine's gradient grows as one over the displacement, so in the first steps of a round it would outweigh the task's
many times over (24 times in the second step, measured on chest X-rays at a weight of 0.01). Its norm is therefore
bounded by a share of the task's gradient over the same tensors (our choice), and what it was is in the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sitelora.regularizers.base import SiteView

_TINY = 1e-30
"""Keeps 0 / 0 away where nothing has moved; far below any product of norms that has."""


@dataclass(frozen=True, kw_only=True)
class SubspaceOrthogonality:
    """Penalise collinearity of shared and local updates, adapter by adapter.

    Args:
        weight: lambda; 0.01 is our choice (the paper's value is unknown).
        decay: beta of the moving average of the local drift; our choice.
        norm: "proxy" normalises by the proxies' own norms (as stated); "effective" by the norms of the full-size
            updates, the true cosine.
        eps: added to the product of the norms, in units of its upper bound ``||A0|| ||B0|| ||dA|| ||dB||``, so that
            the cosine does not depend on how far a learning rate has moved the factors.
        largest_share: bound of its gradient in units of the task's; 0.5 is our choice, None leaves it unbounded.
    """

    weight: float = 0.01
    decay: float = 0.9
    norm: str = "proxy"
    eps: float = 1e-6
    largest_share: float | None = 0.5

    def __post_init__(self) -> None:
        if self.largest_share is not None and not self.largest_share > 0:
            raise ValueError(f"largest_share is {self.largest_share}; expected a number above 0, or None for no bound")
        if self.norm not in ("proxy", "effective"):
            raise ValueError(f"norm is {self.norm!r}; expected 'proxy' or 'effective'")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}; expected 0 <= decay < 1")

    def start(self, view: SiteView) -> _SubspacePenalty:
        """Return the penalty for one pass, anchored at the factors as they are now."""
        return _SubspacePenalty(self, view)


class _SubspacePenalty:
    def __init__(self, rule: SubspaceOrthogonality, view: SiteView) -> None:
        self._rule = rule
        groups: dict[tuple[object, ...], list[tuple[nn.Parameter, nn.Parameter]]] = {}
        for prefix, shares_b in split_pairs(view):
            a, b = view.parameters[prefix + ".A"], view.parameters[prefix + ".B"]
            groups.setdefault((shares_b, a.shape, b.shape), []).append((a, b))
        self.groups = [_AnchoredPairs(rule, pairs, shares_b=bool(key[0])) for key, pairs in groups.items()]

    def __call__(self) -> Tensor:
        """Return the fp32 scalar penalty; zero at the first step of a round."""
        if not self.groups:
            return torch.zeros(())
        return self._rule.weight * torch.stack([group.squared_cosines().sum() for group in self.groups]).sum()

    def after_step(self) -> None:
        """Move the averages of the local drift."""
        for group in self.groups:
            group.note_drift()


def split_pairs(view: SiteView) -> list[tuple[str, bool]]:
    """Return (adapter, whether B is the shared factor) of every pair with one shared and one local factor."""
    found = []
    for name in sorted(view.parameters):
        if not name.endswith(".A"):
            continue
        prefix = name[: -len(".A")]
        other = prefix + ".B"
        if name in view.local and other in view.shared:
            found.append((prefix, True))
        elif name in view.shared and other in view.local:
            found.append((prefix, False))
    return found


class _AnchoredPairs:
    """Adapters of one shape with their anchors, side by side; ``A [L, r, d_in]``, ``B [L, d_out, r]``."""

    def __init__(
        self, rule: SubspaceOrthogonality, pairs: Sequence[tuple[nn.Parameter, nn.Parameter]], *, shares_b: bool
    ) -> None:
        self._rule = rule
        self._shares_b = shares_b
        factors_a: list[Tensor] = [a for a, _ in pairs]
        factors_b: list[Tensor] = [b for _, b in pairs]
        self._shared, self._local = (factors_b, factors_a) if shares_b else (factors_a, factors_b)
        self._a0, self._b0 = torch.stack(factors_a).detach(), torch.stack(factors_b).detach()
        self._gram_a = self._a0 @ self._a0.mT  # [L, r, r]
        self._gram_b = self._b0.mT @ self._b0  # [L, r, r]
        self._local0 = self._a0 if shares_b else self._b0
        self._drift = torch.zeros_like(self._local0)
        self._anchors = _norms(self._a0) * _norms(self._b0)

    def note_drift(self) -> None:
        decay = self._rule.decay
        self._drift.mul_(decay).add_(torch.stack(self._local).detach() - self._local0, alpha=1 - decay)

    def squared_cosines(self) -> Tensor:
        """Return the squared cosine of every adapter, ``[L]``."""
        shared_now = torch.stack(self._shared)
        if self._shares_b:
            change = shared_now - self._b0
            shared, local = self._b0.mT @ change, self._drift @ self._a0.mT
        else:
            change = shared_now - self._a0
            shared, local = change @ self._a0.mT, self._b0.mT @ self._drift
        inner = _sums(shared * local)
        if self._rule.norm == "proxy":
            norms = _root(_sums(shared.square())) * _norms(local)
        else:
            norms = self._effective_norms(change)
        return (inner / (norms + self._rule.eps * self._bound(change) + _TINY)).square()

    def _bound(self, change: Tensor) -> Tensor:
        """Return ``||A0|| ||B0|| ||dA|| ||dB||``, the largest product that the norms can have; no gradient."""
        return self._anchors * _norms(change.detach()) * _norms(self._drift)

    def _effective_norms(self, change: Tensor) -> Tensor:
        """Return ``||shared-induced update||_F ||local-induced update||_F`` from r x r products."""
        if self._shares_b:
            shared = _sums((change.mT @ change) * self._gram_a)
            local = _sums((self._drift @ self._drift.mT) * self._gram_b)
        else:
            shared = _sums((change @ change.mT) * self._gram_b)
            local = _sums((self._drift.mT @ self._drift) * self._gram_a)
        return _root(shared) * local.clamp_min(0).sqrt()


def _sums(values: Tensor) -> Tensor:
    """Return the sum of every matrix of ``[L, m, n]``."""
    return values.sum((1, 2))


def _norms(values: Tensor) -> Tensor:
    """Return the Frobenius norm of every matrix of ``[L, m, n]``."""
    return torch.linalg.vector_norm(values, dim=(1, 2))


def _root(squared: Tensor) -> Tensor:
    """Return the root of a sum of squares with a finite gradient at zero."""
    return (squared.clamp_min(0) + torch.finfo(torch.float32).tiny).sqrt()
