"""RoLoRA (Chen et al. 2025, arXiv 2502.01755): rounds train B and A in turn, so the mean of the other is exact.

B goes first: with B at zero there is no gradient for A. Only the factor that a round trains is sent. The heads train
in every round (our choice: the paper has none).
"""

from __future__ import annotations

from sitelora.adapters.lora import encoder_and_decoder
from sitelora.method import EXACT, Method, Pass
from sitelora.networks.names import HEADS
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def alternate(round_number: int) -> tuple[Pass, ...]:
    """Return one pass that trains B in rounds 0, 2, 4 and A in rounds 1, 3, 5, with the heads."""
    return (Pass(trains=("**.B" if round_number % 2 == 0 else "**.A", *HEADS)),)


def rolora(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return RoLoRA.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="rolora",
        paper="arXiv:2502.01755",
        adapters=encoder_and_decoder(rank=rank, scale=scale),
        share=ShareRule(shared=("**.A", "**.B", *HEADS)),
        server=WeightedMean(),
        phases=alternate,
        mean_product=EXACT,
    )
