"""FedSA-LoRA (Guo et al. 2025, arXiv 2410.01463): A is shared and averaged, B stays, in encoder and decoder.

Every site's model is ``B_k Abar``, so there is no mean product to keep. The official settings keep the task head local;
ours share it by default, as the methods it is compared with do (our choice; ``heads="local"`` is the official one).
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.lora import LoRA
from sitelora.method import NO_MEAN, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule, heads_as
from sitelora.value_kinds import Choices, Rank, Scale


def fedsa_lora(
    *, rank: Rank = 8, scale: Scale = 1.0, heads: Annotated[str, Choices(("shared", "local"))] = "shared"
) -> Method:
    """Return FedSA-LoRA.

    Args:
        rank: r of every pair. scale: s.
        heads: "shared" or "local": upscaling, hyper-networks and mask tokens.
    """
    if heads not in ("shared", "local"):
        raise ValueError(f"fedsa_lora: heads is {heads!r}; expected 'shared' or 'local'")
    return Method(
        name="fedsa_lora",
        paper="arXiv:2410.01463",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(
            shared=("**.A", *heads_as(heads)["shared"]),
            local=("**.B", *heads_as(heads)["local"]),
        ),
        server=WeightedMean(),
        mean_product=NO_MEAN,
    )
