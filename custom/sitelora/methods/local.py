"""Every site on its own: what a federation must beat. Nothing is shared, nothing leaves but numbers."""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import NO_MEAN, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def local(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return local training with the same adapters and trained heads as the federated methods.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="local",
        paper="baseline",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(local=("**.A", "**.B", "@heads")),
        server=WeightedMean(),
        mean_product=NO_MEAN,
    )
