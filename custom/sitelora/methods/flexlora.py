"""FlexLoRA (Bai et al. 2024, arXiv 2402.11505): the mean product is refactored by SVD to every site's own rank.

The best rank-r_k factors are the first r_k rows and columns of the best rank-r ones, so the server makes one message
and the wire cuts it (see ``sharing/ranks.py``). Best rank r of the mean product; exact where the sites' ranks add up to
no more. All singular values go into A and the moments are kept, as in FLAP-SAM: our choice. With their roots in both
factors, a rank that one round does not fill would be zero in both and never train again.
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.lora import LoRA
from sitelora.method import BEST_RANK, Method
from sitelora.server.product import ProductMeanSVD
from sitelora.sharing.ranks import EVEN, HALVING, SiteRanks
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Choices, Rank, Ranks, Scale


def flexlora(
    *,
    rank: Rank = 8,
    scale: Scale = 1.0,
    ranks: Ranks | None = None,
    rule: Annotated[str, Choices((EVEN, HALVING))] = HALVING,
) -> Method:
    """Return FlexLoRA.

    Args:
        rank: r of the network, and of a site never seen. scale: s.
        ranks: of named sites, for example ``{"site-2": 4}``.
        rule: of the sites that are not named: "full", or "halving" by the number in their names (r, r / 2, r / 4, r,
            ...). The paper goes by what a site's computer can do; ours is a stand-in for that (our choice).
    """
    return Method(
        name="flexlora",
        paper="arXiv:2402.11505",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=ProductMeanSVD(),
        ranks=SiteRanks(rank=rank, by_site=ranks or {}, rule=rule),
        mean_product=BEST_RANK,
    )
