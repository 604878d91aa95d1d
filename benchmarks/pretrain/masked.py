"""A masked autoencoder around a classifying transformer (He et al. 2022; CineMA's masking of the convolutions)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sitelora.networks.vit.blocks import Mlp
from sitelora.networks.vit.classifier import VitClassifier
from sitelora.networks.vit.positions import sines

WIDTH, DEPTH, HEADS = 96, 2, 3
"""Of the decoder, which is thrown away."""
_LEAST_SPREAD = 0.05
"""Deviation below which a patch is not blown up to 1: it shows noise."""


def cut(image: Tensor, patch: int) -> Tensor:
    """Return patches ``[B, N, values]`` of ``[B, c, X, Y]`` or ``[B, c, X, Y, Z]``, in the order of the tokens."""
    parts = image.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # [B, c, X', p, Y', p] or [..., Z]
    order = (0, 2, 4, 3, 5, 1) if parts.ndim == 6 else (0, 2, 4, 6, 3, 5, 1)
    grid = parts.ndim - 4
    return parts.permute(order).flatten(grid + 1).flatten(1, grid)


def hide(batch: int, tokens: int, share: float, generator: torch.Generator) -> Tensor:
    """Return ``[B, N]``, true for the same number of randomly chosen tokens in every row."""
    order = torch.rand(batch, tokens, generator=generator).argsort(1)
    return order < int(tokens * share)


class Across(nn.Module):
    """Hidden tokens look at the seen ones, and at nothing else (CineMA's decoder, after CrossMAE)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.kv, self.proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = Mlp(WIDTH)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Return ``[B, n, d]`` for hidden tokens ``[B, n, d]`` and seen ones ``[B, m, d]``."""
        parts = (self.q(self.norm1(x)), *self.kv(seen).chunk(2, dim=-1))
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class MaskedAutoencoder(nn.Module):
    """Predicts hidden patches, each standardised; the squared error over them is the loss.

    Args:
        network: whose encoder is trained. grid: of its tokens. patch: pixels of a token's side. channels: of an image.
    """

    def __init__(self, network: VitClassifier, grid: tuple[int, ...], patch: int, channels: int) -> None:
        super().__init__()
        self.encoder, self.patch = network.encoder, patch
        self.into = nn.Linear(network.encoder.norm.normalized_shape[0], WIDTH)
        self.masked = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.register_buffer("places", sines(grid, WIDTH), persistent=False)
        self.blocks = nn.ModuleList(Across() for _ in range(DEPTH))
        self.out = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, channels * patch * patch))

    def forward(self, image: Tensor, hidden: Tensor) -> Tensor:
        """Return the loss: image as the encoder reads it, ``hidden [B, N]``."""
        token, others = self.encoder(image, hidden)
        places = self.places.expand(len(image), -1, -1)
        seen = self.into(others) + places[~hidden].unflatten(0, (len(image), -1))
        seen = torch.cat([self.into(token)[:, None], seen], dim=1)  # so that the class token is trained too
        x = self.masked + places[hidden].unflatten(0, (len(image), -1))
        for block in self.blocks:
            x = block(x, seen)
        predicted = self.out(x).flatten(0, 1).float()
        return (predicted - standardised(cut(image, self.patch)[hidden])).square().mean()


def standardised(patches: Tensor) -> Tensor:
    """Return patches of mean 0 and deviation about 1, as He et al. ask for them: shapes count, brightness does not."""
    spread = patches.std(-1, keepdim=True).clamp(min=_LEAST_SPREAD)
    return (patches - patches.mean(-1, keepdim=True)) / spread


def start(module: nn.Module) -> None:
    """Give a linear layer the values that He et al. start with: at torch's own, attention stays blind for long."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def learning_rate(step: int, steps: int, peak: float, warm_up: int) -> float:
    """Linear warm-up, then half a cosine over the steps."""
    return peak * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))
