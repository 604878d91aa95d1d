"""The shapes of the SAM networks: Meta's three (Kirillov et al., 2023) and a small one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

Shape = TypeVar("Shape")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything about a SAM network that does not depend on the image size or the classes."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    patch: int = 16
    window: int = 14
    embedding: int = 256
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    meta_file: str | None = None

    @property
    def upscaling_stages(self) -> int:
        """Doublings that bring one token per patch back to one pixel: log2(patch)."""
        return self.patch.bit_length() - 1


ARCHITECTURES: dict[str, Architecture] = {
    "vit_b": Architecture(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11), meta_file="sam_vit_b_01ec64.pth"),
    "vit_l": Architecture(
        width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23), meta_file="sam_vit_l_0b3195.pth"
    ),
    "vit_h": Architecture(
        width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31), meta_file="sam_vit_h_4b8939.pth"
    ),
    # Our choice: small enough for one processor core, patch 8 so that 128 px still gives 16 x 16 tokens.
    "sam_tiny": Architecture(
        width=192,
        depth=6,
        heads=3,
        global_blocks=(2, 5),
        patch=8,
        window=8,
        embedding=128,
        decoder_heads=4,
        decoder_hidden=512,
    ),
}


def architecture(name: str) -> Architecture:
    """Return the architecture called ``name``.

    Raises:
        ValueError: no such architecture.
    """
    return shape_called(name, ARCHITECTURES)


def shape_called(arch: str, shapes: Mapping[str, Shape]) -> Shape:
    """Return the shape that ``arch`` names.

    Raises:
        ValueError: no such architecture; lists those that there are.
    """
    if arch not in shapes:
        raise ValueError(f"found arch={arch!r}, expected one of {sorted(shapes)}")
    return shapes[arch]


def require_patches(arch: str, image_size: int, patch: int) -> None:
    """Refuse a size that an architecture's patches do not fill.

    Raises:
        ValueError: names the nearest size that they fill.
    """
    if image_size <= 0 or image_size % patch:
        raise ValueError(
            f"image_size is {image_size}, expected a multiple of {patch}, the patch of {arch}; for example "
            f"{max(1, round(image_size / patch)) * patch}"
        )
