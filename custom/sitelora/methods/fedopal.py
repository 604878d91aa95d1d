"""FedOPAL (arXiv 2510.12741): a shared and a personal adapter, trained together and kept apart by a regularizer.

On the weights of both adapters, or on what they give (``regularizers/orthogonality.py`` has the formulae, which are
ours). The paper's abstract and one paragraph alone are known: blocks and projections, rank, scale, the regularizer's
weight and what becomes of the head are our choice. With a weight of 0 it is Med-DualLoRA on the same blocks. A site is
served both adapters; a site never seen the global one alone.
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.lora import LoRA, last_blocks
from sitelora.method import INEXACT, Method, ServingRule
from sitelora.regularizers.orthogonality import MOVES, VARIANTS, WEIGHTS, DualOrthogonality
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule, heads_as
from sitelora.value_kinds import Choices, Range, Rank, Scale, Weight, require_choices

NORMALISE: dict[str, bool | None] = {"as_usual": None, "yes": True, "no": False}
PROJECTIONS = ("q,v", "q,kv", "q,k,v")


def fedopal(
    *,
    rank: Rank = 8,
    scale: Scale = 1.0,
    orthogonal: Annotated[str, Choices(VARIANTS)] = WEIGHTS,
    weight: Weight | None = None,
    normalise: Annotated[str, Choices(NORMALISE)] = "as_usual",
    moves: Annotated[str, Choices(MOVES)] = "both",
    head: Annotated[str, Choices(("shared", "local"))] = "shared",
    blocks: Annotated[int, Range(0, 64)] = 0,
    on: Annotated[str, Choices(PROJECTIONS)] = "q,v",
) -> Method:
    """Return FedOPAL.

    Args:
        rank: r of every pair, global and personal. scale: s.
        orthogonal: "weights", "both_factors" or "representations".
        weight: lambda; null is 0.1 on weights and 0.01 on representations, 0 leaves the regularizer out.
        normalise: divide by the squared norms, "yes" or "no"; "as_usual" does so for representations only.
        moves: "both" adapters, or the "local" one alone.
        head: "shared" or "local".
        blocks: how many of the encoder's last blocks are adapted; 0 adapts all.
        on: the projections; "kv" is one pair over the rows of both.
    """
    require_choices("fedopal", on=(on, PROJECTIONS), head=(head, ("shared", "local")), normalise=(normalise, NORMALISE))
    heads = heads_as(head)
    penalty = DualOrthogonality(of=orthogonal, weight=weight, normalise=NORMALISE[normalise], moves=moves)
    where = last_blocks(blocks)
    return Method(
        name="fedopal",
        paper="arXiv:2510.12741",
        adapters=tuple(
            LoRA(where=where, on=tuple(on.split(",")), rank=rank, scale=scale, role=role)
            for role in ("global", "local")
        ),
        share=ShareRule(shared=("**.global.**", *heads["shared"]), local=("**.local.**", *heads["local"])),
        server=WeightedMean(),
        regularizers=(penalty,) if penalty.factor else (),
        serving=ServingRule(strengths={kind: {"local": 0.0} for kind in ("global", "unseen")}),
        mean_product=INEXACT,
    )
