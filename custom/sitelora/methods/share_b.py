"""Share-B (the rule of Fed-ALoRA, arXiv 2509.25414): B is shared and averaged, A stays; FedSA-LoRA turned round.

Every site's model is ``Bbar A_k``, so there is no mean product to keep. All A begin at one seeded value, so the first
mean of B is of factors that belong together.
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import NO_MEAN, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def share_b(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return the share-B rule in encoder and decoder.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="share_b",
        paper="arXiv:2509.25414",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.B", "@heads"), local=("**.A",)),
        server=WeightedMean(),
        mean_product=NO_MEAN,
    )
