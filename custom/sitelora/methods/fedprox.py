"""FedProx (Li et al. 2020, arXiv 1812.06127): FedIT with ``mu / 2 ||w - w_received||^2`` in every site's loss.

Everything that travels is pulled toward what was received: both factors and the heads.
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import INEXACT, Method
from sitelora.regularizers.proximal import Proximal
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale, Weight


def fedprox(*, rank: Rank = 8, scale: Scale = 1.0, mu: Weight = 0.01) -> Method:
    """Return FedProx on LoRA factors and heads.

    Args:
        rank: r of every pair. scale: s.
        mu: weight of the pull; 0.01 is our choice within the paper's grid of 0.001 to 1.
    """
    return Method(
        name="fedprox",
        paper="arXiv:1812.06127",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=WeightedMean(),
        regularizers=(Proximal(weight=mu),),
        mean_product=INEXACT,
    )
