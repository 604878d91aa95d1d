"""Stacking (FLoRA, Wang et al. 2024, arXiv 2409.05976): the sites' factors side by side are their mean product.

``[B_1 .. B_K] [p_1 A_1; ..; p_K A_K] = sum_k p_k B_k A_k``: the weight goes into one factor only. The stack is the
round's base delta, which every site adds beside its base for good, and the pairs begin anew: A Gaussian, B zero. The
new A is drawn by a seed that follows from the size of the one before (our choice: the same at a run that is done again,
another one for another experiment; four digits, because another processor may round the last bit of a drawn value).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sitelora.seeding import derive_seed, gaussian
from sitelora.server.lowrank import pair_prefixes, pairs_of, stack
from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, LowRank, Message, Messages, State, Update, site_weights


def fresh_factors(name: str, b: Tensor, a: Tensor) -> LowRank:
    """Return the pair of the next round: ``B [d_out, r]`` zero and ``A [r, d_in]`` newly drawn.

    Args:
        name: of the adapter.
        b: ``[d_out, r]`` of the round before. a: ``[r, d_in]`` that the sites were sent for it.
    """
    seed = derive_seed("stacked", f"{float(a.double().norm()):.4g}")
    return b.new_zeros(b.shape), gaussian(tuple(a.shape), std=1 / math.sqrt(a.shape[1]), seed=seed, name=f"{name}.A")


@dataclass(frozen=True)
class Stacking:
    """Every pair whose two factors are shared is stacked into the base delta and begins anew; the rest is averaged."""

    sends_base_delta: ClassVar[bool] = True

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message with fresh factors and the stack as base delta; keeps no state."""
        weights = site_weights(updates)
        values = mean_of_values(updates)
        first = updates[min(updates)]
        delta: dict[str, LowRank] = {}
        for prefix in pair_prefixes(sorted(values)):
            b, a = f"{prefix}.B", f"{prefix}.A"
            left, right = stack(pairs_of(updates, prefix), weights)
            delta[prefix] = left.float(), right.float()
            values[b], values[a] = fresh_factors(prefix, first.values[b], first.received[a])
        return {ANY_SITE: Message(values=values, base_delta=delta)}, state
