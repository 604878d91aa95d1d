"""What the parts of a classifying transformer are called; both networks here agree on it."""

from __future__ import annotations

from collections.abc import Mapping

from sitelora.networks.parts import Parts, Projection


def vit_parts(
    depth: int, attention: Mapping[str, tuple[str, ...]], *, parameters: tuple[str, ...] = ("encoder",)
) -> Parts:
    """Return the parts of a transformer with so many blocks.

    Args:
        depth: number of blocks.
        parameters: where all parameters before the head are: a buffer such as a table of places is nobody's to train.
        attention: what the projections of an attention hold, by name: ``{"qkv": ("q", "k", "v")}`` if fused.
    """
    block = "encoder.blocks.*"
    held = {**{f"attn.{name}": holds for name, holds in attention.items()}, "attn.proj": ("out",)}
    held |= {"mlp.fc1": ("mlp_in",), "mlp.fc2": ("mlp_out",)}
    return Parts(
        members={
            "encoder": ("encoder",),
            "decoder": (),
            "all": (*parameters, "head"),
            "heads": ("head",),
            "blocks": tuple(f"encoder.blocks.{index}" for index in range(depth)),
            "attention": (f"{block}.attn",),
            "mlp": (f"{block}.mlp",),
            "decoder_attention": (),
        },
        projections=tuple(Projection(where=f"{block}.{name}", holds=holds) for name, holds in held.items()),
    )
