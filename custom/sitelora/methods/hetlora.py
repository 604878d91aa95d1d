"""HetLoRA (Cho et al. 2024, arXiv 2401.06432): another rank at every site, zero-padded, weighted by sparsity. Inexact.

The server fills every site's factors with zeros to the full rank, averages them by the norms of the sites' products,
and sends a site the first rows of A and columns of B (see ``sharing/ranks.py``). A round that no site of the full rank
attends therefore ends the ranks beyond for good: that is what filling with zeros does. Self-pruning is the penalty
alone: it shrinks a site's tail, but the rank on the wire stays as declared before the run (our choice, so that shapes
can be checked); its weight and decay are our choice too.
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.lora import LoRA
from sitelora.method import INEXACT, Method
from sitelora.regularizers.tail import RankTail
from sitelora.server.sparsity import SparsityWeightedMean
from sitelora.sharing.ranks import EVEN, HALVING, SiteRanks
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Choices, Range, Rank, Ranks, Scale, Weight


def hetlora(
    *,
    rank: Rank = 8,
    scale: Scale = 1.0,
    ranks: Ranks | None = None,
    rule: Annotated[str, Choices((EVEN, HALVING))] = HALVING,
    prune_weight: Weight = 0.001,
    prune_decay: Annotated[float, Range(0, 1)] = 0.75,
) -> Method:
    """Return HetLoRA.

    Args:
        rank: r of the network, and of a site never seen. scale: s.
        ranks: of named sites, for example ``{"site-2": 4}``.
        rule: of the sites that are not named: "full", or "halving" by the number in their names (r, r / 2, r / 4, r,
            ...). The paper goes by what a site's computer can do; ours is a stand-in for that (our choice).
        prune_weight: lambda of the penalty on the last ranks; 0 leaves it out.
        prune_decay: gamma, the share of a site's rank that the penalty leaves alone.
    """
    site_ranks = SiteRanks(rank=rank, by_site=ranks or {}, rule=rule)
    tail = RankTail(weight=prune_weight, decay=prune_decay, ranks=site_ranks)
    return Method(
        name="hetlora",
        paper="arXiv:2401.06432",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=SparsityWeightedMean(),
        regularizers=(tail,) if prune_weight else (),
        ranks=site_ranks,
        mean_product=INEXACT,
    )
