"""Every site on its own: what a federation must beat. Nothing is shared, nothing leaves but numbers."""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import NO_MEAN, Method
from sitelora.networks.names import HEADS
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule


def local(*, rank: int = 8, scale: float = 1.0) -> Method:
    """Return local training with the same adapters and trained heads as the federated methods.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="local",
        paper="baseline",
        adapters=tuple(LoRA(where=part, rank=rank, scale=scale) for part in ("image_encoder", "mask_decoder")),
        share=ShareRule(local=("**.A", "**.B", *HEADS)),
        server=WeightedMean(),
        mean_product=NO_MEAN,
    )
