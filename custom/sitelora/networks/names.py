"""Names of SAM's tensors that share rules speak of (FLAP-SAM, arXiv:2407.21739: trained beside LoRA)."""

from __future__ import annotations

UPSCALING = "mask_decoder.output_upscaling.**"
HYPER_NETWORKS = "mask_decoder.output_hypernetworks_mlps.**"
MASK_TOKENS = "mask_decoder.mask_tokens.**"

HEADS: tuple[str, ...] = (UPSCALING, HYPER_NETWORKS, MASK_TOKENS)
"""Trained and shared beside the adapters: the paper names the first two, its code adds the third."""

DECODER = "mask_decoder.**"

ENCODER_ATTENTION = "image_encoder.blocks.*.attn.**"
"""Projections and relative-position tables of every encoder block."""

DECODER_ATTENTION: tuple[str, ...] = (
    "mask_decoder.transformer.layers.*.self_attn.**",
    "mask_decoder.transformer.layers.*.cross_attn_token_to_image.**",
    "mask_decoder.transformer.layers.*.cross_attn_image_to_token.**",
    "mask_decoder.transformer.final_attn_token_to_image.**",
)

PROMPTS: tuple[str, ...] = tuple(
    f"prompt_encoder.{part}.**"
    for part in ("point_embeddings", "not_a_point_embed", "mask_downscaling", "no_mask_embed")
)
"""The prompt encoder's parameters; its frequencies are a buffer, which nobody trains."""

EVERYTHING: tuple[str, ...] = ("image_encoder.**", DECODER, *PROMPTS)
"""Every parameter of the network."""
