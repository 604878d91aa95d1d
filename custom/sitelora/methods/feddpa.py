"""FedDPA (Yang et al. 2024, arXiv 2403.19211): a global LoRA that travels beside a local one that never does.

Two passes a round, as FedDPA-T alternates them: the local adapter in ``W0 x + a local(x) + (1 - a) global(x)`` with the
global one as received, then the global adapter and the heads in ``W0 x + global(x)`` alone, so a site takes twice the
steps. The global model is the global adapter alone; the personal one mixes both with the constant a. The paper weighs
them at inference by how similar an input is to the site's training inputs: a served model would have to carry features
of training images, so ours does not (our choice). Gradients of the local pass flow through the global adapter, which
does not move in it. The heads, which the paper does not have, are the global adapter's (our choice).
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.lora import LoRA
from sitelora.method import INEXACT, Method, Pass, ServingRule
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Range, Rank, Scale


def feddpa(*, rank: Rank = 8, scale: Scale = 1.0, mixing: Annotated[float, Range(0, 1, above=True)] = 0.5) -> Method:
    """Return FedDPA-T.

    Args:
        rank: r of every pair, global and local. scale: s.
        mixing: a, the weight of the local adapter where both act; 0.5 is the paper's.
    """
    if not 0 < mixing <= 1:
        raise ValueError(f"feddpa: mixing is {mixing}; expected above 0 and at most 1")
    both, alone = {"local": mixing, "global": 1 - mixing}, {"local": 0.0}
    passes = (
        Pass(trains=("**.local.**",), strengths=both),
        Pass(trains=("**.global.**", "@heads"), strengths=alone),
    )
    return Method(
        name="feddpa",
        paper="arXiv:2403.19211",
        adapters=tuple(LoRA(rank=rank, scale=scale, role=role) for role in ("global", "local")),
        share=ShareRule(shared=("**.global.**", "@heads"), local=("**.local.**",)),
        server=WeightedMean(),
        cycle=(passes,),
        serving=ServingRule(strengths={"personal": both, "global": alone, "unseen": alone}),
        mean_product=INEXACT,
    )
