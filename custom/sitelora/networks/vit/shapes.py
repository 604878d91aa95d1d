"""The shapes of the classifying transformers: CineMA's (arXiv:2506.00679), timm's ViT B and S, and two small ones."""

from __future__ import annotations

from dataclasses import dataclass

from sitelora.networks.architecture import require_patches, shape_called

TOKEN = "token"
MEAN = "mean"


@dataclass(frozen=True, kw_only=True)
class VitShape:
    """What all transformers here have, at whatever input size.

    Args:
        width: d of a token. depth: blocks. heads: of an attention. epsilon: of the transformer's norms.
        published: where the weights of this shape come from; empty for those embedded here.
    """

    width: int
    depth: int
    heads: int
    epsilon: float
    published: str = ""


@dataclass(frozen=True, kw_only=True)
class CineShape(VitShape):
    """A volume network: stages of convolutions, each a step down in the plane, before the transformer.

    Args:
        steps: in-plane pixels that a step takes together, the last one before the transformer; slices stay apart.
        channels: of the stages, one fewer than steps.
        convolutions: blocks in every stage. reach: voxels that such a block's convolution sees along each axis.
    """

    steps: tuple[int, ...]
    channels: tuple[int, ...]
    convolutions: int
    reach: int

    @property
    def patch(self) -> int:
        """In-plane pixels of a token."""
        size = 1
        for step in self.steps:
            size *= step
        return size


@dataclass(frozen=True, kw_only=True)
class PictureShape(VitShape):
    """A picture network.

    Args:
        patch: pixels of a token's side. pool: what the head reads, the class token or the mean of the others.
    """

    patch: int
    pool: str


CINE_SHAPES: dict[str, CineShape] = {
    "cinema": CineShape(
        width=768,
        depth=12,
        heads=12,
        epsilon=1e-5,
        steps=(4, 2, 2),
        channels=(64, 128),
        convolutions=2,
        reach=5,
        published="cinema.safetensors or a classification_cvd file of mathpluscode/CineMA on Hugging Face",
    ),
    # Our choice: 96 x 96 x 8 voxels are 288 tokens, and 8 cases cost one core a tenth of a second.
    "cine_tiny": CineShape(
        width=128,
        depth=6,
        heads=4,
        epsilon=1e-5,
        steps=(4, 2, 2),
        channels=(16, 32),
        convolutions=1,
        reach=3,
    ),
}

PICTURE_SHAPES: dict[str, PictureShape] = {
    "vit_b16": PictureShape(
        width=768,
        depth=12,
        heads=12,
        epsilon=1e-6,
        patch=16,
        pool=TOKEN,
        published="the file of timm's vit_base_patch16_224",
    ),
    "vit_s16": PictureShape(
        width=384,
        depth=12,
        heads=6,
        epsilon=1e-6,
        patch=16,
        pool=TOKEN,
        published="the file of timm's vit_small_patch16_224",
    ),
    # Our choice: patch 8, as sam_tiny has it; a masked autoencoder trains no class token, so the head reads the mean.
    "vit_tiny": PictureShape(width=192, depth=6, heads=3, epsilon=1e-6, patch=8, pool=MEAN),
}


def cine_shape(arch: str, image_size: int, slices: int) -> CineShape:
    """Return the shape called ``arch``.

    Raises:
        ValueError: no such architecture, or a size that its patches do not fill.
    """
    shape = shape_called(arch, CINE_SHAPES)
    if slices < 1:
        raise ValueError(f"slices is {slices}, expected at least 1")
    require_patches(arch, image_size, shape.patch)
    return shape


def picture_shape(arch: str, image_size: int) -> PictureShape:
    """Return the shape called ``arch``.

    Raises:
        ValueError: no such architecture, or a size that its patches do not fill.
    """
    shape = shape_called(arch, PICTURE_SHAPES)
    require_patches(arch, image_size, shape.patch)
    return shape
