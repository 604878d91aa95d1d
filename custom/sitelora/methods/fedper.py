"""FedPer (Arivazhagan et al. 2019, arXiv 1912.00818): the body is shared, the last layers stay at the site.

Body: the LoRA factors, each averaged by itself. Last layers: upscaling, hyper-networks and mask tokens.
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import INEXACT, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def fedper(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return FedPer on LoRA factors.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="fedper",
        paper="arXiv:1912.00818",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B"), local=("@heads",)),
        server=WeightedMean(),
        mean_product=INEXACT,
    )
