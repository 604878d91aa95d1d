"""The factors of one low-rank pair, ``s B A x``, and the product of several pairs of one projection.

Two pairs of the same rows are one pair of twice the rank, their factors side by side: ``s1 B1 A1 x + s2 B2 A2 x =
[s1 B1, s2 B2] [A1; A2] x``. Pairs of other rows (q and v of a fused projection) share the product ``[A1; A2] x``. So a
dual adapter reads x once and writes once, and costs about what one adapter does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
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


def add_products(output: Tensor, x: Tensor, pairs: Sequence[LowRankPair]) -> Tensor:
    """Return a projection's output ``[..., d_out]`` with what pairs give for ``x [..., d_in]`` added to their rows.

    All pairs read x in one product, and those of the same rows write in one. ``output`` is written over: it must be
    fresh from the projection, which keeps none of it for its gradient.
    """
    by_rows: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for pair in pairs:
        by_rows.setdefault((pair.rows.start, pair.rows.stop), []).extend(pair.blocks())
    rights = [right for blocks in by_rows.values() for _, right in blocks]
    lefts = [_beside([left for left, _ in blocks], 1).to(output.dtype) for blocks in by_rows.values()]
    right = _beside(rights, 0).to(output.dtype)
    added: Tensor = _Products.apply(output, x.to(output.dtype), right, tuple(by_rows), *lefts)
    return added


def _beside(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)


class _Products(torch.autograd.Function):
    """``output[rows_i] += left_i right_i x`` for stacked right factors ``[R, d_in]`` and lefts ``[d_out_i, r_i]``."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, x: Tensor, right: Tensor, rows: tuple[tuple[int, int], ...], *lefts: Tensor
    ) -> Tensor:
        x = x.flatten(0, -2)
        with torch.autocast(output.device.type, enabled=False):
            read = functional.linear(x, right)
            written = output.detach()  # the same storage, without the history of a change in place
            flat = written.view(-1, output.shape[-1])
            for part, columns, left in zip(rows, _columns(lefts), lefts, strict=True):
                flat[:, slice(*part)].addmm_(read[:, columns], left.T)
        ctx.save_for_backward(x, right, read, *lefts)
        ctx.rows = rows
        return written

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, right, read, *lefts = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        of_read = torch.empty_like(read)
        of_lefts: list[Tensor | None] = []
        for place, (part, columns, left) in enumerate(zip(ctx.rows, _columns(lefts), lefts, strict=True)):
            of_part = flat[:, slice(*part)]
            of_read[:, columns] = of_part @ left
            of_lefts.append(of_part.T @ read[:, columns] if ctx.needs_input_grad[4 + place] else None)
        of_x = (of_read @ right).view(*gradient.shape[:-1], -1) if ctx.needs_input_grad[1] else None
        of_right = of_read.T @ x if ctx.needs_input_grad[2] else None
        return gradient, of_x, of_right, None, *of_lefts


def _columns(lefts: Sequence[Tensor]) -> Iterator[slice]:
    """Yield which of the stacked products belong to every left factor."""
    end = 0
    for left in lefts:
        start, end = end, end + left.shape[1]
        yield slice(start, end)
