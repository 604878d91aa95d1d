"""MA-SAM (arXiv:2309.08842), a centralised reference: FacT-TT on q and v, 3-D adapters in every block, the decoder.

FLAP-SAM compares itself with it on all sites' images in one place. 28.667M values are trained on ViT-B at 224 px with
one class, the prompt encoder's among them, as in MA-SAM's code. FLAP-SAM's table says that the network has 115.298M in
all; that is not reproduced (115.291M here).
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.fact import FacT
from sitelora.adapters.slices import SliceAdapters
from sitelora.method import NO_MEAN, Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Range, Rank, Scale

ONLY_ALONE = (
    "MA-SAM is a centralised reference. All blocks have the same factors U and V, and only their products with each "
    "block's core mean something, so that neither a mean of factors nor one refactored product is the sites' mean; and "
    "its 28.7 million values would be a third of the network in every round"
)


def ma_sam(*, rank: Rank = 32, scale: Scale = 1.0, reduction: Annotated[int, Range(1, 64)] = 2) -> Method:
    """Return MA-SAM, which a federation of more than one site refuses.

    Args:
        rank: r of the tensor train, 32 in the paper. scale: s.
        reduction: width divided by the 3-D adapters' channels; 2 in the code.
    """
    return Method(
        name="ma_sam",
        paper="arXiv:2309.08842",
        adapters=(FacT(rank=rank, scale=scale), SliceAdapters(reduction=reduction)),
        share=ShareRule(local=("@encoder.**.fact.**", "@encoder.**.slices.**", "@decoder", "@prompts")),
        server=WeightedMean(),
        mean_product=NO_MEAN,
        needs={"decoder": "MA-SAM trains one with its adapters, on segmentation"},
        only_alone=ONLY_ALONE,
    )
