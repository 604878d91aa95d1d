"""CineMA's convolutions before the transformer and their fusion behind it (ConvMAE, Gao et al. 2022, in 3-D).

Every step takes pixels of one slice together: 192 x 192 x 16 becomes 48 x 48 x 16, 24 x 24 x 16 and 12 x 12 x 16
tokens. Within a stage neighbouring slices see each other. Submodules are called as in CineMA.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Mlp
from .positions import sines
from .shapes import CineShape

FRAMES = 2
_EPSILON = 1e-6


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of ``[B, c, X, Y, Z]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of ``x``."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class StepDown(nn.Module):
    """Patches of one slice to one voxel, a norm, a GELU."""

    def __init__(self, channels_in: int, channels_out: int, step: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, (step, step, 1), stride=(step, step, 1))
        self.norm = ChannelNorm(channels_out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, c', X / step, Y / step, Z]``."""
        return F.gelu(self.norm(self.conv(x)))


class ConvolutionBlock(nn.Module):
    """A wide convolution in the place of attention, then an MLP of the channels; what is hidden stays unseen."""

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels, eps=_EPSILON), ChannelNorm(channels, eps=_EPSILON)
        self.conv1, self.conv2 = nn.Conv3d(channels, channels, 1), nn.Conv3d(channels, channels, 1)
        self.dw_conv = nn.Conv3d(channels, channels, reach, padding=reach // 2, groups=channels)
        self.mlp = Mlp(channels, nn.Conv3d, kernel_size=1)

    def forward(self, x: Tensor, shown: Tensor | None) -> Tensor:
        """Return the shape of ``x``; ``shown [B, 1, X, Y, Z]`` is 0 where the convolution must see nothing."""
        seen = self.conv1(self.norm1(x))
        x = x + self.conv2(self.dw_conv(seen if shown is None else seen * shown.to(seen.dtype)))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Stage(nn.Module):
    """A step down and convolutions at its resolution."""

    def __init__(self, channels_in: int, channels_out: int, step: int, blocks: int, reach: int) -> None:
        super().__init__()
        self.patch_embed = StepDown(channels_in, channels_out, step)
        self.conv = nn.ModuleList(ConvolutionBlock(channels_out, reach) for _ in range(blocks))

    def forward(self, x: Tensor, shown: Tensor | None) -> Tensor:
        """Return ``[B, c', X / step, Y / step, Z]``."""
        x = self.patch_embed(x)
        for block in self.conv:
            x = block(x, shown)
        return x


class Patches(nn.Module):
    """Linear on what the last step takes together: ``[B, c, X, Y, Z]`` to ``[B, N, d]``, the slices running fastest."""

    def __init__(self, channels: int, width: int, step: int) -> None:
        super().__init__()
        self.step = step
        self.proj = nn.Linear(channels * step * step, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, N, d]``."""
        cut = x.unflatten(3, (-1, self.step)).unflatten(2, (-1, self.step))  # [B, c, X', s, Y', s, Z]
        out: Tensor = self.proj(cut.permute(0, 2, 4, 6, 3, 5, 1).flatten(4).flatten(1, 3))
        return out


class Stem(nn.Module):
    """Volumes to the transformer's tokens.

    Args:
        shape: of the network. grid: tokens along X, Y, Z.
    """

    def __init__(self, shape: CineShape, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.grid, self.steps = grid, shape.steps
        channels = (FRAMES, *shape.channels)
        self.conv_blocks = nn.ModuleList(
            Stage(channels_in, channels_out, step, shape.convolutions, shape.reach)
            for channels_in, channels_out, step in zip(channels, channels[1:], shape.steps, strict=False)
        )
        self.patch_embed = Patches(channels[-1], shape.width, shape.steps[-1])
        self.linear = nn.Linear(shape.width, shape.width)
        self.register_buffer("pos_embed", sines(grid, shape.width).to(self.linear.weight.device))

    def initial_value(self, leaf: str) -> Tensor:
        """Return the table of places, which nobody trains."""
        return sines(self.grid, self.linear.out_features)

    def forward(self, volume: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the tokens ``[B, N, d]`` and what each stage made ``[B, c, X', Y', Z]``.

        Args:
            volume: ``[B, 2, X, Y, Z]``.
            hidden: ``[B, N]``, true where no token may see what lies there (masked autoencoding); None hides nothing.
        """
        x, made = volume, []
        for place, stage in enumerate(self.conv_blocks):
            shown = None if hidden is None else self._shown(hidden, place)
            x = stage(x, shown)
            made.append(x)
        return self.linear(self.patch_embed(x)) + self.pos_embed, made

    def _shown(self, hidden: Tensor, place: int) -> Tensor:
        shown = (~hidden).unflatten(1, self.grid)[:, None]
        for step in self.steps[place + 1 :]:
            shown = shown.repeat_interleave(step, dim=2).repeat_interleave(step, dim=3)
        return shown


class Fusion(nn.Module):
    """What the stages made, brought to the tokens' grid and added to what the transformer made of them."""

    def __init__(self, shape: CineShape) -> None:
        super().__init__()
        sizes: list[tuple[int, int, int]] = []
        size = 1
        for step in reversed(shape.steps[1:]):
            size *= step
            sizes.insert(0, (size, size, 1))
        self.down_convs = nn.ModuleList(
            nn.Conv3d(channels, shape.width, size, stride=size)
            for channels, size in zip(shape.channels, sizes, strict=True)
        )
        self.norm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, tokens: Tensor, made: list[Tensor], hidden: Tensor | None = None) -> Tensor:
        """Return ``[B, n, d]`` for the n tokens that are not hidden."""
        return self.added(tokens, self.brought_down(made, hidden))

    def brought_down(self, made: Sequence[Tensor], hidden: Tensor | None = None) -> list[Tensor]:
        """Return what every stage made at the tokens' grid, ``[B, n, d]`` each."""
        found = []
        for stage, convolution in zip(made, self.down_convs, strict=True):
            down = convolution(stage).flatten(2).transpose(1, 2)
            found.append(down if hidden is None else down[~hidden].unflatten(0, (len(down), -1)))
        return found

    def added(self, tokens: Tensor, downs: Sequence[Tensor]) -> Tensor:
        """Return the norm of their sum, ``[B, n, d]``."""
        for down in downs:
            tokens = tokens + down
        out: Tensor = self.norm(tokens)
        return out
