"""FedEx-LoRA (Singhal et al. 2025, arXiv 2410.09432): averaged factors and the residual as base delta.

Exact in fp32; over the bf16 wire 0.23 % remain (:mod:`sitelora.server.residual`). The base delta that a site receives
has rank (K - 1) r for K sites in a round, and there is none where one site trained alone.
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import EXACT, Method
from sitelora.server.residual import MeanWithResidual
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def fedex_lora(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return FedEx-LoRA: ``Bbar Abar`` plus the accumulated residuals is the mean of the products.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="fedex_lora",
        paper="arXiv:2410.09432",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=MeanWithResidual(),
        mean_product=EXACT,
    )
