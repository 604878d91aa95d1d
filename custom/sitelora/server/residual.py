"""Mean plus residual (FedEx-LoRA): ``B, A`` are averaged, and what that lost becomes a base delta.

``R = sum_k p_k B_k A_k - Bbar Abar = sum_k p_k b_k a_k`` with ``b_k = B_k - Bbar`` and ``a_k = A_k - Abar``. The
differences sum to zero under the weights, so one site's go into the others': with ``s^2 = p_K`` and ``c = s / (1 + s)``
``R = sum_{k<K} p_k (b_k - c b_K) (a_k - c a_K)``, of rank (K - 1) r. That is the Householder reflection which takes the
roots of the weights to the last site: it is orthogonal, so that the parts grow no larger and rounding costs what it
costs the factors of an SVD. Of many sites nothing more is computed; few columns are refactored by SVD. One site alone
loses nothing and sends no residual. The official code averages uniformly and sends R as a d x d matrix; we weight by
cases, so that the effective update equals the weighted mean product, and send factors: both our choice.

Equal means: in fp32, at the server (4e-8). The bf16 wire rounds the averaged factors and the residual's own, as it does
every message, and what a site then has is 0.23 % from the mean product (measured on drawn factors of two and six
sites). That is what rounding costs FedIT too, whose mean of factors is besides 3 to 30 % from the mean product there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sitelora.server.lowrank import pair_prefixes, pairs_of, truncated_svd
from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, State, Update, site_weights

REFACTORED = 64
"""Columns of a residual up to which it is refactored by SVD (our choice: two sites of rank 64)."""


def residual(pairs: Mapping[str, LowRank], weights: Mapping[str, float]) -> LowRank:
    """Return factors of ``sum_k p_k B_k A_k - Bbar Abar``, fp32.

    Args:
        pairs: ``B [d_out, r]`` and ``A [r, d_in]`` of two sites at least.
        weights: ``p_k`` of these sites; the sum is 1.

    Returns:
        ``[d_out, n]`` and ``[n, d_in]`` with n the smallest of (K - 1) r, d_out and d_in. Where n is d_out or d_in, one
        of the two is the identity: R has then no smaller factors.
    """
    *others, last = sorted(pairs)
    part = weights[last] ** 0.5 / (1 + weights[last] ** 0.5)
    lefts, rights = (_differences([pairs[site][n] for site in (*others, last)], weights, part) for n in (0, 1))
    left = torch.cat([weights[site] * difference for site, difference in zip(others, lefts, strict=True)], dim=1)
    right = torch.cat(rights, dim=0)
    size = min(left.shape[0], right.shape[1])
    if min(left.shape[1], size) <= REFACTORED:
        u, s, vh, _ = truncated_svd(left, right, min(left.shape[1], size))
        root = s.sqrt()
        return (u * root).float(), (root[:, None] * vh).float()
    if left.shape[1] <= size:
        return left.float(), right.float()
    whole, identity = (left @ right).float(), torch.eye(size)
    return (identity, whole) if left.shape[0] == size else (whole, identity)


def _differences(factors: Sequence[Tensor], weights: Mapping[str, float], part: float) -> list[Tensor]:
    """Return ``x_k - c x_K`` of all sites but the last, with ``x_k`` the distance of a factor from the mean.

    Args:
        factors: of the sites, sorted. weights: theirs. part: c.
    """
    shares = [weights[site] for site in sorted(weights)]
    doubles = [factor.double() for factor in factors]
    mean = torch.zeros_like(doubles[0])
    for share, factor in zip(shares, doubles, strict=True):
        mean.add_(factor, alpha=share)
    shift = mean + part * (doubles[-1] - mean)
    return [factor - shift for factor in doubles[:-1]]


@dataclass(frozen=True)
class MeanWithResidual:
    """Every tensor is averaged; the residual of every pair accumulates beside the base at all sites."""

    sends_base_delta: ClassVar[bool] = True

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message with the averaged factors and the residual as base delta; keeps no state."""
        weights = site_weights(updates)
        values = mean_of_values(updates)
        prefixes = pair_prefixes(sorted(values)) if len(updates) > 1 else []
        delta = {prefix: residual(pairs_of(updates, prefix), weights) for prefix in prefixes}
        return {ANY_SITE: Message(values=values, base_delta=delta)}, state
