"""Mean plus residual (FedEx-LoRA): ``B, A`` are averaged, and what that lost becomes a base delta.

``R = sum_k p_k B_k A_k - Bbar Abar`` is sent as low-rank factors of rank at most (K + 1) r, recompressed to its
numerical rank (at most K r). The official code averages uniformly; we weight by cases: our choice, so that the
effective update equals the weighted mean product exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from sitelora.server.lowrank import pair_prefixes, pairs_of, stack, truncated_svd
from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, State, Update, site_weights


def residual(pairs: Mapping[str, LowRank], weights: Mapping[str, float], mean: LowRank) -> LowRank:
    """Return factors of ``sum_k p_k B_k A_k - Bbar Abar``, fp32, of rank at most K r."""
    left, right = stack(pairs, weights)
    left = torch.cat([left, mean[0].double()], dim=1)
    right = torch.cat([right, -mean[1].double()], dim=0)
    rank = min(left.shape[1] - mean[0].shape[1], left.shape[0], right.shape[1])
    u, s, vh, _ = truncated_svd(left, right, rank)
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
        delta = {
            prefix: residual(pairs_of(updates, prefix), weights, (values[f"{prefix}.B"], values[f"{prefix}.A"]))
            for prefix in pair_prefixes(sorted(values))
        }
        return {ANY_SITE: Message(values=values, base_delta=delta)}, state
