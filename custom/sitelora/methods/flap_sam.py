"""FLAP-SAM (arXiv 2407.21739): LoRA, upscaling and hyper-networks travel; products are averaged and refactored by SVD.

The mask tokens travel too, as in the paper's code. A is Gaussian and B zero as in the paper (its code leaves both
random). Rank 32 is the paper's; the scale, which it does not state, is 1 as in its code.
"""

from __future__ import annotations

from sitelora.adapters.lora import LoRA
from sitelora.method import Method
from sitelora.networks.names import HEADS
from sitelora.server.product import ProductMeanSVD
from sitelora.sharing.rule import ShareRule


def flap_sam(*, rank: int = 32, scale: float = 1.0) -> Method:
    """Return FLAP-SAM.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="flap_sam",
        paper="arXiv:2407.21739",
        adapters=tuple(LoRA(where=part, rank=rank, scale=scale) for part in ("image_encoder", "mask_decoder")),
        share=ShareRule(shared=("**.A", "**.B", *HEADS)),
        server=ProductMeanSVD(),
    )
