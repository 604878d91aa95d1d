"""The factors of one low-rank pair, ``s B A x``, and the product of several pairs that read and change the same.

Two pairs of one projection are one pair of twice the rank, their factors side by side: ``s1 B1 A1 x + s2 B2 A2 x =
[s1 B1, s2 B2] [A1; A2] x``. So a dual adapter reads x once and writes once, and costs about what one adapter does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sitelora.seeding import fill_gaussian


class LowRankPair(nn.Module):
    """Factors of one projection, and the base delta that accumulates beside it.

    Attributes:
        A: ``[r, d_in]``. B: ``[d_out, r]``. scale: s. rows: the slice of the host's outputs it adds to.
        strength: a further factor, for adapters that weigh in differently from pass to pass (FedDPA).
        delta: ``None`` or factors ``(B [d_out, k], A [k, d_in])`` in units of the scale.
    """

    delta_left: Tensor | None
    delta_right: Tensor | None

    def __init__(self, *, rank: int, d_in: int, rows: slice, scale: float, seed: int, name: str) -> None:
        super().__init__()
        d_out = rows.stop - rows.start
        self.A = nn.Parameter(torch.empty(rank, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, rank))
        fill_gaussian(self.A, std=1 / math.sqrt(d_in), seed=seed, name=f"{name}.A")
        self.rows = rows
        self.scale = scale
        self.strength = 1.0
        # buffers, so that a base delta follows its network to another device; in no state dict, as the round keeps it
        self.register_buffer("delta_left", None, persistent=False)
        self.register_buffer("delta_right", None, persistent=False)

    @property
    def delta(self) -> tuple[Tensor, Tensor] | None:
        """The base delta's factors, or None without one."""
        if self.delta_left is None or self.delta_right is None:
            return None
        return self.delta_left, self.delta_right

    @delta.setter
    def delta(self, factors: tuple[Tensor, Tensor] | None) -> None:
        self.delta_left, self.delta_right = (None, None) if factors is None else factors

    def forward(self, x: Tensor) -> Tensor:
        """Return ``s (B A + delta) x``, times the strength, for ``x [..., d_in]``, shape ``[..., d_out]``."""
        out = functional.linear(functional.linear(x, self.A), self.B)
        if self.delta is not None:
            left, right = self.delta
            out = out + functional.linear(functional.linear(x, right), left)
        factor = self.scale * self.strength
        return out if factor == 1 else out * factor

    def blocks(self) -> list[tuple[Tensor, Tensor]]:
        """Return all that acts, as factors ``(left [d_out, k], right [k, d_in])`` that scale and strength are in."""
        factor = self.scale * self.strength
        found = [(self.B, self.A), *([self.delta] if self.delta is not None else [])]
        return [(left if factor == 1 else left * factor, right) for left, right in found]

    def product(self) -> Tensor:
        """Return ``s (B A + delta)``, times the strength, ``[d_out, d_in]`` fp32."""
        full = self.B.detach().float() @ self.A.detach().float()
        if self.delta is not None:
            full = full + self.delta[0].float() @ self.delta[1].float()
        return full * (self.scale * self.strength)


def joined(pairs: Sequence[LowRankPair], x: Tensor) -> Tensor:
    """Return the sum of what pairs of the same rows give for ``x [..., d_in]``, ``[..., d_out]``, as one product."""
    lefts, rights = zip(*(block for pair in pairs for block in pair.blocks()), strict=True)
    return functional.linear(functional.linear(x, torch.cat(rights)), torch.cat(lefts, dim=1))
