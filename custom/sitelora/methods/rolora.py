"""RoLoRA (Chen et al. 2025, arXiv 2502.01755): rounds train B and A in turn, so the mean of the other is exact.

B goes first: with B at zero there is no gradient for A. Only the factor that a round trains is sent. The heads train
in every round (our choice: the paper has none).
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import EXACT, Method, Pass
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def rolora(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return RoLoRA.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="rolora",
        paper="arXiv:2502.01755",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=WeightedMean(),
        cycle=tuple((Pass(trains=(f"**.{factor}", "@heads")),) for factor in "BA"),
        mean_product=EXACT,
    )
