"""Mean plus residual (FedEx-LoRA): ``B, A`` are averaged, and what that lost becomes a base delta.

``R = sum_k p_k B_k A_k - Bbar Abar = sum_k p_k (B_k - Bbar) (A_k - Abar)``. The differences of B sum to zero under the
weights, so one site's can be written by the others': ``R = sum_{k<K} p_k (B_k - Bbar) (A_k - A_K)``, of rank (K - 1) r.
One site alone loses nothing and sends no residual. The official code averages uniformly and sends R as a d x d matrix;
we weight by cases, so that the effective update equals the weighted mean product, and send factors: both our choice.

Equal means: in fp32, at the server (4e-8). The bf16 wire rounds the averaged factors and the residual's own, as it does
every message, and what a site then has is 0.23 % from the mean product (measured on drawn factors of two and six
sites). That is what rounding costs FedIT too, whose mean of factors is besides 3 to 30 % from the mean product there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from sitelora.server.lowrank import pair_prefixes, pairs_of, truncated_svd
from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, State, Update, site_weights


def residual(pairs: Mapping[str, LowRank], weights: Mapping[str, float]) -> LowRank:
    """Return factors of ``sum_k p_k B_k A_k - Bbar Abar``, fp32.

    Args:
        pairs: ``B [d_out, r]`` and ``A [r, d_in]`` of two sites at least.
        weights: ``p_k`` of these sites; the sum is 1.

    Returns:
        ``[d_out, n]`` and ``[n, d_in]`` with n the smallest of (K - 1) r, d_out and d_in.
    """
    *others, last = sorted(pairs)
    mean = torch.stack([weights[site] * pairs[site][0].double() for site in sorted(pairs)]).sum(dim=0)
    left = torch.cat([weights[site] * (pairs[site][0].double() - mean) for site in others], dim=1)
    right = torch.cat([pairs[site][1].double() - pairs[last][1].double() for site in others], dim=0)
    u, s, vh, _ = truncated_svd(left, right, min(left.shape[1], left.shape[0], right.shape[1]))
    root = s.sqrt()
    return (u * root).float(), (root[:, None] * vh).float()


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
