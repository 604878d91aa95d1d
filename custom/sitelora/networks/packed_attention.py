"""SAM's attention as three products and one softmax: relative positions inside the first, gradients written in place.

Queries become ``[q, q.Rh[i, :], q.Rw[j, :]]`` and keys ``[s k, one-hot row, one-hot column]`` (`attention.py` says why
that is exact). The relative terms come from one product of the queries with both tables; the offset ``i - k`` of a row
is a stride into it, so no table is gathered and no einsum copies the queries. What autograd would keep or copy between
the products (scaled queries, two maps of positions, slices of q, k and v) is never made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .upstream import load_modeling

_image_encoder: Any = load_modeling().image_encoder
_Attention: Any = _image_encoder.Attention


class PackedAttention(_Attention):
    """Drop-in for segment_anything's encoder attention: same tensors, values and gradients (1e-5 in fp32)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return attention over ``[B, H, W, C]`` tokens, same shape."""
        if torch.compiler.is_compiling():  # which fuses the plain arithmetic itself, and takes no gradient in place
            plain: Tensor = super().forward(x)
            return plain
        height, width = x.shape[1:3]
        qkv = self.qkv(x).flatten(1, 2)
        tables = torch.cat([_full(self.rel_pos_h, height), _full(self.rel_pos_w, width)]).to(qkv.dtype)
        with torch.autocast(x.device.type, enabled=False):  # everything in it has the dtype of qkv
            out: Tensor = _Packed.apply(qkv, tables, self.num_heads, height, width, self.scale)
        return self.proj(out.unflatten(1, (height, width)))


def _full(table: Tensor, side: int) -> Tensor:
    """Return a table of offsets for a side of so many tokens, ``[2 side - 1, d]`` from the largest to the smallest."""
    if table.shape[0] == 2 * side - 1:
        return table.flip(0)
    resized = _image_encoder.get_rel_pos(side, side, table)  # [side, side, d], as segment_anything interpolates
    return torch.cat([resized[-1], resized[0, 1:]])


class _Packed(torch.autograd.Function):
    """``[B, N, 3C]`` queries, keys and values to attended values ``[B, N, C]``."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, tables: Tensor, heads: int, height: int, width: int, scale: float) -> Tensor:
        batch, tokens, three = qkv.shape
        d = three // (3 * heads)
        q, k, v = qkv.view(batch, tokens, 3, heads, d).permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, N, d]
        longer = (batch * heads, tokens, d + height + width)
        queries, keys = qkv.new_empty(longer), qkv.new_empty(longer)
        queries[..., :d].view(batch, heads, tokens, d).copy_(q)
        relative = queries.flatten(0, 1)[:, :d] @ tables.T
        positions = queries.view(-1, height, width, longer[-1])[..., d:]
        for place, seen in zip(_split(positions, height), _by_offset(relative, height, width), strict=True):
            place.copy_(seen)
        keys[..., :d].view(batch, heads, tokens, d).copy_(k).mul_(scale)
        rows, cols = _split(keys.view(-1, height, width, longer[-1])[..., d:].zero_(), height)
        rows.diagonal(dim1=1, dim2=3).fill_(1)
        cols.diagonal(dim1=2, dim2=3).fill_(1)
        values = v.reshape(batch * heads, tokens, d)
        weights = torch.bmm(queries, keys.transpose(1, 2))
        torch.softmax(weights, -1, out=weights)
        ctx.save_for_backward(queries, keys, values, weights, tables)
        ctx.shape = batch, heads, height, width, scale
        return _side_by_side(torch.bmm(weights, values), batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights, tables = ctx.saved_tensors
        batch, heads, height, width, scale = ctx.shape
        _, tokens, d = values.shape
        each = (batch, heads, tokens, d)
        of_out = gradient.view(batch, tokens, heads, d).transpose(1, 2).reshape(values.shape)
        of_qkv = gradient.new_empty(batch, tokens, 3, heads, d)
        of_q, of_k, of_v = of_qkv.permute(2, 0, 3, 1, 4).unbind(0)
        of_v.copy_(torch.bmm(weights.transpose(1, 2), of_out).view(each))
        of_logits = torch._softmax_backward_data(torch.bmm(of_out, values.transpose(1, 2)), weights, -1, weights.dtype)
        of_k.copy_(torch.bmm(of_logits.transpose(1, 2), queries[..., :d]).view(each)).mul_(scale)
        of_queries = torch.bmm(of_logits, keys)
        of_relative = gradient.new_zeros(len(values) * tokens, len(tables))
        positions = of_queries.view(-1, height, width, keys.shape[-1])[..., d:]
        for place, given in zip(_by_offset(of_relative, height, width), _split(positions, height), strict=True):
            place.copy_(given)
        of_q.copy_(torch.addmm(of_queries.flatten(0, 1)[:, :d], of_relative, tables).view(each))
        of_tables = of_relative.T @ queries.flatten(0, 1)[:, :d] if ctx.needs_input_grad[1] else None
        return of_qkv.flatten(2), of_tables, None, None, None, None


def _side_by_side(values: Tensor, batch: int) -> Tensor:
    """Return ``[B * heads, N, d]`` as ``[B, N, heads * d]``."""
    return values.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2)


def _split(positions: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Return the parts for rows and for columns of ``[..., height + width]``."""
    return positions[..., :height], positions[..., height:]


def _by_offset(relative: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return views of products with both tables as ``[M, H, W, H]`` by row and ``[M, H, W, W]`` by column.

    ``relative [M * N, 2H - 1 + 2W - 1]`` holds, for a query in row i, the offset ``i - k`` at ``H - 1 - i + k``, as the
    tables run from the largest offset to the smallest: one row further down is one place to the left.
    """
    many, wide = len(relative) // (height * width), relative.shape[1]
    first = relative.storage_offset()
    by_row = (height * width * wide, width * wide - 1, wide, 1)
    by_col = (height * width * wide, width * wide, wide - 1, 1)
    return (
        relative.as_strided((many, height, width, height), by_row, first + height - 1),
        relative.as_strided((many, height, width, width), by_col, first + 2 * height - 1 + width - 1),
    )
