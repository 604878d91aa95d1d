"""FFA-LoRA (Sun et al. 2024, arXiv 2403.12313): A stays at its seeded value, B is trained and averaged. Exact.

With one A at all sites ``mean(B_k) A = mean(B_k A)``. A is frozen, so half of the factors never travel. The heads train
and travel as in the other methods (our choice: the paper has none).
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import EXACT, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import REST_OF_BASE, ShareRule
from sitelora.value_kinds import Rank, Scale


def ffa_lora(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return FFA-LoRA.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="ffa_lora",
        paper="arXiv:2403.12313",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.B", "@heads"), frozen=("**.A", REST_OF_BASE)),
        server=WeightedMean(),
        mean_product=EXACT,
    )
