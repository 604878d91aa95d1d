"""Ditto (Li et al. 2021, arXiv 2012.04221): FedAvg for the shared model, and a personal one pulled toward it.

Two passes a round: the travelling copy as in FedAvg, then the personal copy with ``weight / 2 ||v - w||^2``, where w
is what the site received. A site therefore takes twice the steps of the other methods.
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import INEXACT, Method, Pass, ServingRule
from sitelora.regularizers.proximal import Proximal
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale, Weight


def ditto(*, rank: Rank = 8, scale: Scale = 1.0, weight: Weight = 0.1) -> Method:
    """Return Ditto on LoRA factors and heads.

    Args:
        rank: r of every pair. scale: s. weight: lambda of the pull (our choice).
    """
    passes = (Pass(), Pass(copy="personal", regularizers=(Proximal(weight=weight),)))
    return Method(
        name="ditto",
        paper="arXiv:2012.04221",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=WeightedMean(),
        cycle=(passes,),
        serving=ServingRule(personal_copy="personal"),
        mean_product=INEXACT,
    )
