"""The plain vision transformer (Dosovitskiy et al. 2021, as in timm) as a classifier of pictures, for FedOPAL."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sitelora.networks.parts import Parts
from sitelora.networks.stages import Flow

from .blocks import Encoder, FusedAttention
from .classifier import Readout, VitClassifier
from .loading import TIMM, read_base, require_published
from .parts import vit_parts
from .positions import sines
from .shapes import MEAN, PICTURE_SHAPES, PictureShape, picture_shape

_ATTENTION = {"qkv": ("q", "k", "v")}
_COLOURS = 3


class PatchEmbedding(nn.Module):
    """Patches of a picture to tokens, ``[B, 3, H, W]`` to ``[B, N, d]``."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(_COLOURS, width, patch, stride=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ``[B, N, d]``."""
        out: Tensor = self.proj(pixels).flatten(2).transpose(1, 2)
        return out


class PictureEncoder(Encoder):
    """Patches, places, transformer."""

    def __init__(self, shape: PictureShape, side: int) -> None:
        super().__init__(
            attention=FusedAttention, width=shape.width, depth=shape.depth, heads=shape.heads, epsilon=shape.epsilon
        )
        self.side = side
        self.patch_embed = PatchEmbedding(shape.patch, shape.width)
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + side * side, shape.width))

    def initial_value(self, leaf: str) -> Tensor:
        """Return a fresh value: places start as sines, which spares the learning of them (our choice)."""
        if leaf != "pos_embed":
            return super().initial_value(leaf)
        width = self.pos_embed.shape[2]
        return torch.cat([torch.zeros(1, 1, width, device="cpu"), sines((self.side, self.side), width)], dim=1)

    def forward(self, pixels: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the class token ``[B, d]`` and the tokens that are not hidden ``[B, n, d]``.

        Args:
            pixels: ``[B, 3, H, W]``.
            hidden: ``[B, N]``, true for what is masked, of equal number in every picture; None hides nothing.
        """
        tokens = self._placed(pixels)
        if hidden is not None:
            tokens = tokens[~hidden].unflatten(0, (len(tokens), -1))
        x = self.transform(tokens)
        return x[:, 0], x[:, 1:]

    def stem_holds(self) -> tuple[str, ...]:
        """Return patches, places and class token."""
        return ("patch_embed", "pos_embed", "cls_token")

    def before_blocks(self, pixels: Tensor) -> Flow:
        """Return the tokens ``[B, 1 + N, d]``."""
        return (self.with_class_token(self._placed(pixels)),)

    def _placed(self, pixels: Tensor) -> Tensor:
        tokens: Tensor = self.patch_embed(pixels) + self.pos_embed[:, 1:]
        return tokens

    def class_token(self) -> Tensor:
        """Return the class token, which has a place of its own in timm's networks."""
        return self.cls_token + self.pos_embed[:, :1]


class PictureClassifier(VitClassifier):
    """Logits ``[B, K]`` of pictures.

    Args:
        arch: ``vit_b16``, ``vit_s16`` (timm's, whose head reads the class token) or ``vit_tiny`` (ours, the mean).
        image_size: height and width in pixels, a multiple of the patch; the table of places is resized to it.
        classes: K, at least 2.
        base: path of a checkpoint, ``embedded`` (vit_tiny's own weights), or None for seeded random values.
        seed: seeds every tensor that the checkpoint does not provide, by the tensor's name.
        precision: ``bf16``, ``fp32`` or ``auto``.
        quiet: do not warn about a random base.

    Raises:
        ValueError: a size, class number, architecture or option that cannot be, or a checkpoint that does not fit.
        FileNotFoundError: no checkpoint there.
    """

    def __init__(
        self,
        *,
        arch: str,
        image_size: int,
        classes: int = 2,
        base: str | None = None,
        seed: int = 0,
        precision: str = "auto",
        quiet: bool = False,
    ) -> None:
        shape = picture_shape(arch, image_size)
        super().__init__(
            arch=arch,
            classes=classes,
            parts=vit_parts(shape.depth, _ATTENTION),
            width=shape.width,
            encoder=partial(PictureEncoder, shape, image_size // shape.patch),
            head=partial(Readout, shape.width, classes),
            read=partial(read_base, arch=arch, shape=shape, layouts=TIMM),
            base=base,
            seed=seed,
            precision=precision,
            quiet=quiet,
        )
        self.size, self.pool = (image_size, image_size), shape.pool

    @staticmethod
    def parts_for(*, arch: str, image_size: int, **_: Any) -> Parts:
        """Return the parts of a network that is not built yet.

        Raises:
            ValueError: no such architecture, or a size that its patches do not fill.
        """
        return vit_parts(picture_shape(arch, image_size).depth, _ATTENTION)

    @staticmethod
    def require_base(*, arch: str, base: str | None, **_: Any) -> None:
        """Refuse the embedded weights for another architecture than theirs, and a file that is not there.

        Raises:
            ValueError: says which file to give and where it is published.
            FileNotFoundError: no checkpoint there.
        """
        require_published(arch, base, PICTURE_SHAPES)

    def ready(self, image: Tensor) -> Tensor:
        """Return what the encoder reads.

        Args:
            image: ``[B, 1 or 3, H, W]``, intensities from 0 to 1; grey is repeated to three colours. Mean and
                deviation of 0.5 are applied here, as in the published files of timm's two.

        Raises:
            ValueError: another shape.
        """
        side = self.size[0]
        if image.ndim != 4 or image.shape[1] not in (1, _COLOURS) or tuple(image.shape[2:]) != self.size:
            raise ValueError(
                f"found an input of shape {tuple(image.shape)}, expected [B, 1 or {_COLOURS}, {side}, {side}]: "
                f"resize or crop to image_size={side}, or build the network at another"
            )
        return (image.as_subclass(Tensor).float().expand(-1, _COLOURS, -1, -1) - 0.5) / 0.5

    def read_out(self, token: Tensor, others: Tensor) -> Tensor:
        """Return the class token, or the mean of the others, ``[B, d]``."""
        return others.mean(1) if self.pool == MEAN else token
