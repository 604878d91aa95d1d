"""The transformer's blocks (Dosovitskiy et al. 2021): q, k and v fused as in timm, or q beside k and v as in CineMA."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sitelora.networks.stages import Flow

MLP_RATIO = 4


class Attention(nn.Module):
    """Attention among tokens ``[B, N, d]``; how they become queries, keys and values is the subclass's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each ``[B, N, d]``."""
        raise TypeError(f"{type(self).__name__} does not say how its tokens become queries, keys and values")

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, N, d]``."""
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.project(x))
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class FusedAttention(Attention):
    """One projection ``qkv``, as in timm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.qkv = nn.Linear(width, 3 * width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each ``[B, N, d]``."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return q, k, v


class SplitAttention(Attention):
    """Projections ``q`` and ``kv``, as in CineMA."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each ``[B, N, d]``."""
        k, v = self.kv(x).chunk(2, dim=-1)
        return self.q(x), k, v


class Mlp(nn.Module):
    """Two projections around a GELU; of tokens, or of the channels of a volume where they are convolutions of 1."""

    def __init__(self, width: int, layer: type[nn.Module] = nn.Linear, **options: int) -> None:
        super().__init__()
        self.fc1 = layer(width, MLP_RATIO * width, **options)
        self.fc2 = layer(MLP_RATIO * width, width, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shape of ``x``."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to what it read."""

    def __init__(self, attention: Attention, width: int, epsilon: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=epsilon)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=epsilon)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[B, N, d]``."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Encoder(nn.Module):
    """A class token before the others, blocks, a norm; what makes tokens of images is the subclass's."""

    def __init__(self, *, attention: type[Attention], width: int, depth: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(Block(attention(width, heads), width, epsilon) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=epsilon)

    def transform(self, tokens: Tensor) -> Tensor:
        """Return ``[B, 1 + N, d]`` for embedded tokens ``[B, N, d]``, to which the class token is added."""
        x = self.with_class_token(tokens)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def with_class_token(self, tokens: Tensor) -> Tensor:
        """Return ``[B, 1 + N, d]``."""
        return torch.cat([self.class_token().expand(len(tokens), -1, -1), tokens], dim=1)

    def stem_holds(self) -> tuple[str, ...]:
        """Return what `before_blocks` computes with, by its names in the encoder."""
        raise TypeError(f"{type(self).__name__} does not say what its stem holds")

    def before_blocks(self, pixels: Tensor) -> Flow:
        """Return the tokens that enter the first block ``[B, 1 + N, d]``, and what goes around the blocks."""
        raise TypeError(f"{type(self).__name__} does not say how it makes tokens")

    def after_blocks(self, tokens: Tensor, *aside: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder gives, of the tokens that leave the last block and what went around them."""
        x = self.norm(tokens)
        return x[:, 0], x[:, 1:]

    def class_token(self) -> Tensor:
        """Return the class token as it enters the first block, ``[1, 1, d]``."""
        return self.cls_token

    def initial_value(self, leaf: str) -> Tensor:
        """Return a fresh value of ``cls_token``, as both publishers draw it."""
        value: Tensor = torch.randn(getattr(self, leaf).shape, device="cpu") * 0.02
        return value
