"""FedIT (Zhang et al. 2024, arXiv 2305.05644): both LoRA factors are averaged, each by itself. Inexact by design."""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import INEXACT, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def fedavg_lora(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return FedAvg over A, B and the heads: ``Bbar Abar`` is not the mean of the products.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="fedavg_lora",
        paper="arXiv:2305.05644",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=WeightedMean(),
        mean_product=INEXACT,
    )
