"""IAT: Inverse Asymmetric Tuning with the subspace orthogonality regularizer (arXiv 2606.08687).

The encoder shares B and keeps A (appearance shifts), the decoder shares A and keeps B (supervision shifts). One pair
per projection, split by factor. The paper leaves open: the other trained decoder parts (ours: upscaling,
hyper-networks and mask tokens, shared by default), the regularizer's weight, the scale: our choice.
"""

from __future__ import annotations

from typing import Annotated

from sitelora.adapters.lora import LoRA
from sitelora.method import NO_MEAN, Method
from sitelora.regularizers.subspace import SubspaceOrthogonality
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule, heads_as
from sitelora.value_kinds import Choices, Rank, Scale, Weight, require_choices

WITHOUT_DECODER = (
    "IAT shares B in an encoder and A in a decoder; on an encoder alone it would be share_b (or fedsa_lora, which "
    "shares A): take that"
)


def iat(
    *,
    rank: Rank = 8,
    scale: Scale = 1.0,
    encoder_shares: Annotated[str, Choices(("A", "B"))] = "B",
    decoder_shares: Annotated[str, Choices(("A", "B"))] = "A",
    sor_weight: Weight = 0.01,
    sor_norm: Annotated[str, Choices(("proxy", "effective"))] = "proxy",
    heads: Annotated[str, Choices(("shared", "local"))] = "shared",
) -> Method:
    """Return IAT or one of its controls.

    Args:
        rank: r of every pair. scale: s.
        encoder_shares: factor that the image encoder shares; "A" with ``decoder_shares="A"`` is FedSA-LoRA.
        decoder_shares: factor that the mask decoder shares; "B" with ``encoder_shares="A"`` is the wrong way round.
        sor_weight: lambda of the regularizer; 0.01 is our choice, 0 leaves it out.
        sor_norm: "proxy" or "effective".
        heads: "shared" or "local": upscaling, hyper-networks and mask tokens.
    """
    require_choices(
        "iat",
        encoder_shares=(encoder_shares, ("A", "B")),
        decoder_shares=(decoder_shares, ("A", "B")),
        heads=(heads, ("shared", "local")),
    )
    other = {"A": "B", "B": "A"}
    head_patterns = heads_as(heads)
    return Method(
        name="iat",
        paper="arXiv:2606.08687",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(
            shared=(
                f"@encoder.**.{encoder_shares}",
                f"@decoder.**.{decoder_shares}",
                *head_patterns["shared"],
            ),
            local=(
                f"@encoder.**.{other[encoder_shares]}",
                f"@decoder.**.{other[decoder_shares]}",
                *head_patterns["local"],
            ),
        ),
        server=WeightedMean(),
        regularizers=(SubspaceOrthogonality(weight=sor_weight, norm=sor_norm),) if sor_weight else (),
        mean_product=NO_MEAN,
        needs={"decoder": WITHOUT_DECODER},
    )
