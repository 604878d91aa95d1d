"""Med-DualLoRA (arXiv 2603.10967): ``h = W0 x + s B_g A_g x + s B_l A_l x``, both trained at a site, the global shared.

On the encoder's last two blocks, which the paper found to be enough, with the ablations that it needs: one adapter
alone, more blocks, other ranks. A site is served both adapters; a site never seen, and a vendor never seen, the global
one alone. The paper's abstract alone is known: which blocks and projections, rank, scale, what becomes of the head and
how the pairs are averaged are our choice.
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.lora import LoRA, last_blocks
from sitelora.method import BEST_RANK, INEXACT, NO_MEAN, Method, ServingRule
from sitelora.server.mean import WeightedMean
from sitelora.server.product import ProductMeanSVD
from sitelora.server.types import ServerRule
from sitelora.sharing.rule import ShareRule, heads_as
from sitelora.value_kinds import Choices, Range, Rank, Scale, require_choices

MODES: dict[str, tuple[str, ...]] = {"dual": ("global", "local"), "global": ("global",), "local": ("local",)}
"""The adapters of every mode, by role."""
PROJECTIONS = ("q,kv", "q,v", "q,k,v")
AGGREGATIONS: dict[str, tuple[ServerRule, str]] = {
    "factors": (WeightedMean(), INEXACT),
    "product": (ProductMeanSVD(), BEST_RANK),
}


def med_duallora(
    *,
    blocks: Annotated[int, Range(0, 64)] = 2,
    mode: Annotated[str, Choices(MODES)] = "dual",
    rank: Rank = 8,
    scale: Scale = 1.0,
    on: Annotated[str, Choices(PROJECTIONS)] = "q,kv",
    head: Annotated[str, Choices(("shared", "local"))] = "shared",
    aggregation: Annotated[str, Choices(AGGREGATIONS)] = "factors",
) -> Method:
    """Return Med-DualLoRA or one of its ablations.

    Args:
        blocks: how many of the encoder's last blocks are adapted; 0 adapts all.
        mode: "dual", or one adapter alone: "global" (then it is FedIT on these blocks) or "local" (nothing travels).
        rank: r of every pair, 4, 8 or 16 in our ablation. scale: s.
        on: the projections; "kv" is one pair over the rows of both, as CineMA's blocks have them.
        head: "shared" or "local".
        aggregation: "factors" averages each by itself; "product" refactors the mean product by SVD to rank r.
    """
    require_choices(
        "med_duallora",
        mode=(mode, MODES),
        on=(on, PROJECTIONS),
        head=(head, ("shared", "local")),
        aggregation=(aggregation, AGGREGATIONS),
    )
    roles, travels = MODES[mode], mode != "local"
    heads = heads_as(head if travels else "local")
    server, claim = AGGREGATIONS[aggregation]
    alone = {"local": 0.0} if mode == "dual" else {}
    where = last_blocks(blocks)
    return Method(
        name="med_duallora",
        paper="arXiv:2603.10967",
        adapters=tuple(LoRA(where=where, on=tuple(on.split(",")), rank=rank, scale=scale, role=role) for role in roles),
        share=ShareRule(
            shared=(*(f"**.{role}.**" for role in roles if role == "global"), *heads["shared"]),
            local=(*(f"**.{role}.**" for role in roles if role == "local"), *heads["local"]),
        ),
        server=server,
        serving=ServingRule(strengths={"global": alone, "unseen": alone}),
        mean_product=claim if travels else NO_MEAN,
    )
