"""FLAP-SAM (arXiv 2407.21739): LoRA, upscaling and hyper-networks travel; products are averaged and refactored by SVD.

With the fine-tuning modes that the paper compares it with, which differ in what is trained and travels. The mask tokens
travel too, as in the paper's code. A is Gaussian and B zero as in the paper (its code leaves both random). Rank 32 is
the paper's; the scale, which it does not state, is 1 as in its code. A site keeps its Adam moments of factors that the
server has replaced: our choice, as in the code; the paper does not say. AttnFT has three definitions in the paper and
its code; ``attn_ft`` is the one that gives the number in the paper's table. DoRA and the mixture of experts are the
paper's too: DoRA's lengths m are frozen there, and the experts' gates stay at a site.
"""

from __future__ import annotations

from typing import Annotated, Any

from sitelora.adapters.dora import DoRA
from sitelora.adapters.lora import LoRA
from sitelora.adapters.mixture import Mixture
from sitelora.method import BEST_RANK, FEDERATED, NO_MEAN, SETTINGS, Method
from sitelora.server.mean import WeightedMean
from sitelora.server.product import SPLITS, ProductMeanSVD
from sitelora.sharing.rule import REST_OF_BASE, ShareRule
from sitelora.value_kinds import Choices, Range, Rank, Scale, require_choices

FACTORS = ("**.A", "**.B")
MODES: dict[str, tuple[str, ...]] = {
    "full_ft": ("@all",),
    "attn_ft": ("@attention", "@decoder_attention"),  # the table: 29.575M at C=1
    "attn_ft_text": ("@attention", "@decoder"),  # the text: encoder attention and the whole decoder
    "attn_ft_code": ("@attention", "@decoder_attention", "@heads"),  # the released code
    "dec_ft": ("@decoder",),
    "lora_ft": FACTORS,
    "lora_dec_ft": ("@encoder.**.A", "@encoder.**.B", "@decoder"),  # like SAMed, with LoRA in the decoder too
    "pdec_ft": ("@heads",),
    "flap_sam": (*FACTORS, "@heads"),
}
"""What every mode trains. FullFT to FLAP-SAM are the seven of the paper's tables 1 and 2."""

WITHOUT_DECODER = "A mode that trains the mask decoder has no meaning without one: take lora_ft, pdec_ft or flap_sam"

WITH_LORA = ("lora_ft", "lora_dec_ft", "flap_sam")

ADAPTERS: dict[str, type[LoRA]] = {"lora": LoRA, "dora": DoRA, "mixture": Mixture}


def flap_sam(
    *,
    mode: Annotated[str, Choices(MODES)] = "flap_sam",
    rank: Rank = 32,
    scale: Scale = 1.0,
    adapter: Annotated[str, Choices(ADAPTERS)] = "lora",
    experts: Annotated[int, Range(1, 16)] = 3,
    setting: Annotated[str, Choices(SETTINGS)] = FEDERATED,
    split: Annotated[str, Choices(SPLITS)] = "A",
    moments: Annotated[str, Choices(("keep", "reset"))] = "keep",
) -> Method:
    """Return FLAP-SAM or one of the fine-tuning modes beside it.

    Args:
        mode: one of MODES.
        rank: r of every pair; 32, 16 and 4 in the paper. scale: s.
        adapter: "lora", "dora" or "mixture" (of ``experts`` pairs). Every pair is averaged and refactored by itself.
        setting: "federated", or "local": the same is trained and nothing travels. The paper's centralised setting is
            "local" on a folder with all sites' images.
        split: which factor takes the singular values: "A" (the paper's), "B" or "symmetric".
        moments: "keep" or "reset" the optimiser's moments of the factors that the server has replaced.
    """
    require_choices(
        "flap_sam",
        mode=(mode, MODES),
        adapter=(adapter, ADAPTERS),
        setting=(setting, SETTINGS),
        moments=(moments, ("keep", "reset")),
    )
    with_lora = mode in WITH_LORA
    if adapter != "lora" and not with_lora:
        raise ValueError(f"flap_sam: mode {mode!r} has no adapter, found adapter={adapter!r}; leave it at 'lora'")
    travels = setting == FEDERATED
    rule = ShareRule(
        shared=MODES[mode],
        local=("**.lora_gates.z",) if adapter == "mixture" else (),
        frozen=(REST_OF_BASE, *(("**.lora.**.m",) if adapter == "dora" else ())),
    )
    more: dict[str, Any] = {"experts": experts} if adapter == "mixture" else {}
    return Method(
        name="flap_sam",
        paper="arXiv:2407.21739",
        adapters=(ADAPTERS[adapter](rank=rank, scale=scale, **more),) if with_lora else (),
        share=rule if travels else rule.stays(),
        server=ProductMeanSVD(split=split) if with_lora else WeightedMean(),
        fresh_moments=FACTORS if moments == "reset" else (),
        mean_product=BEST_RANK if with_lora and travels else NO_MEAN,
        needs={"decoder": WITHOUT_DECODER} if "@decoder" in MODES[mode] else {},
    )
