"""FLoRA (Wang et al. 2024, arXiv 2409.05976): the sites' factors are stacked beside the base and begin anew.

Exact in fp32; the bf16 wire rounds the stack and leaves 0.1 to 0.3 % (measured on drawn factors).

A message holds the stack of all sites' factors (its rank is the sum of theirs: K times the bytes of FedIT), which every
site adds beside its frozen base, and the fresh pair of the next round. The optimiser's moments of the replaced factors
are forgotten; those of the heads, which are averaged, are kept (our choice: the paper has no heads).
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import EXACT, Method
from sitelora.server.stack import Stacking
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale


def flora(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return FLoRA.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="flora",
        paper="arXiv:2409.05976",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=Stacking(),
        fresh_moments=("**.A", "**.B"),
        mean_product=EXACT,
    )
