"""CineMA's transformer (arXiv:2506.00679) as a classifier of cine volumes, end-diastole beside end-systole."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sitelora.networks.parts import Parts
from sitelora.networks.stages import Flow

from .blocks import Encoder, SplitAttention
from .classifier import Readout, VitClassifier
from .loading import CINEMA, read_base, require_published
from .parts import vit_parts
from .shapes import CINE_SHAPES, CineShape, cine_shape
from .stem import FRAMES, Fusion, Stem

_ATTENTION = {"q": ("q",), "kv": ("k", "v")}
_PARAMETERS = tuple(
    f"encoder.{part}"
    for part in ("cls_token", "stem.conv_blocks", "stem.patch_embed", "stem.linear", "blocks", "norm", "fusion")
)


class CineEncoder(Encoder):
    """Stem, transformer, fusion."""

    def __init__(self, shape: CineShape, grid: tuple[int, int, int]) -> None:
        super().__init__(
            attention=SplitAttention, width=shape.width, depth=shape.depth, heads=shape.heads, epsilon=shape.epsilon
        )
        self.stem, self.fusion = Stem(shape, grid), Fusion(shape)

    def forward(self, volume: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the class token ``[B, d]`` and the tokens that are not hidden ``[B, n, d]``.

        Args:
            volume: ``[B, 2, X, Y, Z]``.
            hidden: ``[B, N]``, true for what is masked, of equal number in every volume; None hides nothing.
        """
        tokens, made = self.stem(volume, hidden)
        if hidden is not None:
            tokens = tokens[~hidden].unflatten(0, (len(tokens), -1))
        x = self.transform(tokens)
        return x[:, 0], self.fusion(x[:, 1:], made, hidden)

    def stem_holds(self) -> tuple[str, ...]:
        """Return the stem, the convolutions that bring it to the end, and the class token."""
        return ("stem", "fusion.down_convs", "cls_token")

    def before_blocks(self, pixels: Tensor) -> Flow:
        """Return the tokens ``[B, 1 + N, d]``, and what of every stage of the stem is fused at the end."""
        tokens, made = self.stem(pixels)
        return (self.with_class_token(tokens), *self.fusion.brought_down(made))

    def after_blocks(self, tokens: Tensor, *aside: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class token ``[B, d]`` and the fused tokens ``[B, N, d]``."""
        x = self.norm(tokens)
        return x[:, 0], self.fusion.added(x[:, 1:], aside)


class CineHead(nn.Module):
    """One linear head for the mean of the tokens, one for the class token; the mean of their logits."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.sax, self.cls = Readout(width, classes), Readout(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``[B, K]`` for ``[B, 2 d]``."""
        mean, token = features.chunk(2, dim=1)
        out: Tensor = (self.sax(mean) + self.cls(token)) / 2
        return out


class CineClassifier(VitClassifier):
    """Logits ``[B, K]`` of cine volumes, as CineMA's fine-tuned networks give them.

    Args:
        arch: ``cinema`` (CineMA's, at 192 x 192 x 16 voxels of 1 x 1 x 10 mm) or ``cine_tiny`` (ours).
        image_size: height and width in pixels, a multiple of the patch, 16. Places are computed for it.
        slices: of the stack.
        classes: K, at least 2.
        base: path of a checkpoint, ``embedded`` (cine_tiny's own weights), or None for seeded random values.
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
        slices: int,
        classes: int = 2,
        base: str | None = None,
        seed: int = 0,
        precision: str = "auto",
        quiet: bool = False,
    ) -> None:
        shape = cine_shape(arch, image_size, slices)
        side = image_size // shape.patch
        super().__init__(
            arch=arch,
            classes=classes,
            parts=vit_parts(shape.depth, _ATTENTION, parameters=_PARAMETERS),
            width=2 * shape.width,
            encoder=partial(CineEncoder, shape, (side, side, slices)),
            head=partial(CineHead, shape.width, classes),
            read=partial(read_base, arch=arch, shape=shape, layouts=CINEMA),
            base=base,
            seed=seed,
            precision=precision,
            quiet=quiet,
        )
        self.size = (image_size, image_size, slices)

    @staticmethod
    def parts_for(*, arch: str, image_size: int, slices: int, **_: Any) -> Parts:
        """Return the parts of a network that is not built yet.

        Raises:
            ValueError: no such architecture, or a size that its patches do not fill.
        """
        return vit_parts(cine_shape(arch, image_size, slices).depth, _ATTENTION, parameters=_PARAMETERS)

    @staticmethod
    def require_base(*, arch: str, base: str | None, **_: Any) -> None:
        """Refuse the embedded weights for another architecture than theirs, and a file that is not there.

        Raises:
            ValueError: says which file to give and where it is published.
            FileNotFoundError: no checkpoint there.
        """
        require_published(arch, base, CINE_SHAPES)

    def ready(self, image: Tensor) -> Tensor:
        """Return what the encoder reads.

        Args:
            image: ``[B, 2, X, Y, Z]``: end-diastole and end-systole, intensities from 0 to 1.

        Raises:
            ValueError: another shape.
        """
        x, y, z = self.size
        if image.ndim != 5 or tuple(image.shape[1:]) != (FRAMES, *self.size):
            raise ValueError(
                f"found an input of shape {tuple(image.shape)}, expected [B, {FRAMES}, {x}, {y}, {z}]: end-diastole "
                f"and end-systole, resized or cropped to image_size={x} and slices={z}"
            )
        return image.as_subclass(Tensor).float()

    def read_out(self, token: Tensor, others: Tensor) -> Tensor:
        """Return the mean of the tokens, then the class token, ``[B, 2 d]``."""
        return torch.cat([others.mean(1), token], dim=1)
