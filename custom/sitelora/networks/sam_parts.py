"""What the parts of a SAM network are called (Meta's names, Kirillov et al. 2023)."""

from __future__ import annotations

from sitelora.networks.parts import Parts, Projection

_DECODER_ATTENTION = (
    "mask_decoder.transformer.layers.*.self_attn",
    "mask_decoder.transformer.layers.*.cross_attn_token_to_image",
    "mask_decoder.transformer.layers.*.cross_attn_image_to_token",
    "mask_decoder.transformer.final_attn_token_to_image",
)
_PROMPTS = tuple(
    f"prompt_encoder.{part}" for part in ("point_embeddings", "not_a_point_embed", "mask_downscaling", "no_mask_embed")
)


def sam_parts(depth: int) -> Parts:
    """Return the parts of a SAM with so many encoder blocks.

    ``heads`` are what FLAP-SAM (arXiv:2407.21739) trains beside LoRA: the paper names upscaling and hyper-networks, its
    code adds the mask tokens. ``prompts`` are the prompt encoder's parameters; its frequencies are a buffer, which
    nobody trains.
    """
    block, layers = "image_encoder.blocks.*", "mask_decoder.transformer.layers.*"
    return Parts(
        members={
            "encoder": ("image_encoder",),
            "decoder": ("mask_decoder",),
            "prompts": _PROMPTS,
            "all": ("image_encoder", "mask_decoder", *_PROMPTS),
            "heads": tuple(
                f"mask_decoder.{part}" for part in ("output_upscaling", "output_hypernetworks_mlps", "mask_tokens")
            ),
            "blocks": tuple(f"image_encoder.blocks.{index}" for index in range(depth)),
            "attention": (f"{block}.attn",),
            "mlp": (f"{block}.mlp",),
            "decoder_attention": _DECODER_ATTENTION,
        },
        projections=(
            Projection(where=f"{block}.attn.qkv", holds=("q", "k", "v")),
            Projection(where=f"{block}.attn.proj", holds=("out",)),
            Projection(where=f"{block}.mlp.lin1", holds=("mlp_in",)),
            Projection(where=f"{block}.mlp.lin2", holds=("mlp_out",)),
            *(
                Projection(where=f"{attention}.{name}", holds=(what,))
                for attention in _DECODER_ATTENTION
                for name, what in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("out_proj", "out"))
            ),
            Projection(where=f"{layers}.mlp.lin1", holds=("mlp_in",)),
            Projection(where=f"{layers}.mlp.lin2", holds=("mlp_out",)),
        ),
    )
