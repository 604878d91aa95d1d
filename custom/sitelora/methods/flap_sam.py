"""FLAP-SAM (arXiv 2407.21739): LoRA, upscaling and hyper-networks travel; products are averaged and refactored by SVD.

With the fine-tuning modes that the paper compares it with, which differ in what is trained and travels. The mask tokens
travel too, as in the paper's code. A is Gaussian and B zero as in the paper (its code leaves both random). Rank 32 is
the paper's; the scale, which it does not state, is 1 as in its code. A site keeps its Adam moments of factors that the
server has replaced: our choice, as in the code; the paper does not say. AttnFT has three definitions in the paper and
its code; ``attn_ft`` is the one that gives the number in the paper's table.
"""

from __future__ import annotations

from sitelora.adapters.lora import encoder_and_decoder
from sitelora.method import BEST_RANK, NO_MEAN, Method
from sitelora.networks.names import DECODER, DECODER_ATTENTION, ENCODER_ATTENTION, EVERYTHING, HEADS
from sitelora.server.mean import WeightedMean
from sitelora.server.product import ProductMeanSVD
from sitelora.sharing.rule import ShareRule

FACTORS = ("**.A", "**.B")
MODES: dict[str, tuple[str, ...]] = {
    "full_ft": EVERYTHING,
    "attn_ft": (ENCODER_ATTENTION, *DECODER_ATTENTION),  # the table: 29.575M at C=1
    "attn_ft_text": (ENCODER_ATTENTION, DECODER),  # the text: encoder attention and the whole decoder
    "attn_ft_code": (ENCODER_ATTENTION, *DECODER_ATTENTION, *HEADS),  # the released code
    "dec_ft": (DECODER,),
    "lora_ft": FACTORS,
    "lora_dec_ft": ("image_encoder.**.A", "image_encoder.**.B", DECODER),  # like SAMed, with LoRA in the decoder too
    "pdec_ft": HEADS,
    "flap_sam": (*FACTORS, *HEADS),
}
"""What every mode trains. FullFT to FLAP-SAM are the seven of the paper's tables 1 and 2."""

WITH_LORA = ("lora_ft", "lora_dec_ft", "flap_sam")


def flap_sam(
    *,
    mode: str = "flap_sam",
    rank: int = 32,
    scale: float = 1.0,
    setting: str = "federated",
    split: str = "A",
    moments: str = "keep",
) -> Method:
    """Return FLAP-SAM or one of the fine-tuning modes beside it.

    Args:
        mode: one of MODES.
        rank: r of every pair; 32, 16 and 4 in the paper. scale: s.
        setting: "federated", or "local": the same is trained and nothing travels. The paper's centralised setting is
            "local" on a folder with all sites' images.
        split: which factor takes the singular values: "A" (the paper's), "B" or "symmetric".
        moments: "keep" or "reset" the optimiser's moments of the factors that the server has replaced.
    """
    for argument, value, allowed in (
        ("mode", mode, tuple(MODES)),
        ("setting", setting, ("federated", "local")),
        ("moments", moments, ("keep", "reset")),
    ):
        if value not in allowed:
            raise ValueError(f"flap_sam: {argument} is {value!r}; expected one of {allowed}")
    with_lora = mode in WITH_LORA
    travels = setting == "federated"
    return Method(
        name="flap_sam",
        paper="arXiv:2407.21739",
        adapters=encoder_and_decoder(rank=rank, scale=scale) if with_lora else (),
        share=ShareRule(shared=MODES[mode] if travels else (), local=() if travels else MODES[mode]),
        server=ProductMeanSVD(split=split) if with_lora else WeightedMean(),
        fresh_moments=FACTORS if moments == "reset" else (),
        mean_product=BEST_RANK if with_lora and travels else NO_MEAN,
    )
