"""SAM's attention with its relative positions inside the product of longer queries and keys (MViTv2, eq. 4; exact).

The logits of segment_anything's encoder are ``s q.k + q.Rh[i, k_row] + q.Rw[j, k_col]``. The two last terms are
themselves a dot product: append ``q.Rh[i, :]`` and ``q.Rw[j, :]`` to the query and the one-hot row and column to the
key. So one product gives the logits, and nothing of the map's size is added to it. ``packed`` keeps the N x N map once,
after its softmax; ``folded`` gives the longer queries and keys to `scaled_dot_product_attention` and never stores it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .packed_attention import PackedAttention
from .upstream import load_modeling

_image_encoder: Any = load_modeling().image_encoder
_Attention: Any = _image_encoder.Attention

SEGMENT_ANYTHING = "segment_anything"
PACKED = "packed"
FOLDED = "folded"
AUTO = "auto"
CHOICES = (AUTO, SEGMENT_ANYTHING, PACKED, FOLDED)


class FoldedAttention(_Attention):
    """Drop-in for segment_anything's encoder attention: same tensors, values and gradients (1e-5 in fp32)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return attention over ``[B, H, W, C]`` tokens, same shape."""
        batch, height, width, _ = x.shape
        tokens = height * width
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each [B, heads, N, head_dim]
        if self.use_rel_pos:
            q, k, v, scale = self._fold(q, k, v, height, width)
        else:
            scale = self.scale
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)[..., : x.shape[-1] // self.num_heads]
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, -1))

    def _fold(self, q: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, float]:
        """Append positions: ``[B, heads, N, d]`` becomes ``[B, heads, N, d + height + width]``."""
        grid = q.unflatten(2, (height, width))
        rows = _image_encoder.get_rel_pos(height, height, self.rel_pos_h).to(q.dtype)
        cols = _image_encoder.get_rel_pos(width, width, self.rel_pos_w).to(q.dtype)
        by_row = torch.einsum("bnhwc,hkc->bnhwk", grid, rows).flatten(2, 3)
        by_col = torch.einsum("bnhwc,wkc->bnhwk", grid, cols).flatten(2, 3)
        row_of = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, dim=0)
        col_of = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
        one_hot = torch.cat([row_of, col_of], dim=-1).expand(*k.shape[:2], -1, -1)
        folded_q = torch.cat([q * self.scale, by_row, by_col], dim=-1)
        folded_k = torch.cat([k, one_hot], dim=-1)
        return folded_q, folded_k, F.pad(v, (0, height + width)), 1.0


def use_attention(encoder: nn.Module, choice: str) -> None:
    """Give every block of a SAM image encoder the attention that ``choice`` names; tensors keep theirs.

    Args:
        encoder: segment_anything's `ImageEncoderViT`, still on the meta device.
        choice: ``segment_anything``, ``packed``, ``folded``, or ``auto``: folded where the map is too large to be kept,
            packed below that.

    Raises:
        ValueError: an unknown choice.
    """
    if choice not in CHOICES:
        raise ValueError(f"found attention={choice!r}, expected one of {CHOICES}")
    if choice == SEGMENT_ANYTHING:
        return
    for block in encoder.blocks:  # type: ignore[union-attr]
        old = block.attn
        side = (old.rel_pos_h.shape[0] + 1) // 2
        folds = choice == FOLDED or (choice == AUTO and side * side >= AUTO_FOLDS_FROM_TOKENS)
        block.attn = (FoldedAttention if folds else PackedAttention)(
            old.qkv.in_features, num_heads=old.num_heads, use_rel_pos=True, input_size=(side, side)
        )


AUTO_FOLDS_FROM_TOKENS = 4096
"""Tokens in one attention (a window or the image) from which `auto` folds: SAM at 1024 px.

Our choice from benchmarks/results/attention.json (one AMD EPYC core, one picture, one block, training): at 4,096
tokens folding keeps 0.3 GB instead of 1.3 (bf16) and 0.5 instead of 2.5 (fp32) and takes 1.8 and 1.3 times as long
as segment_anything's own; below, what it saves is small beside the network. Packed is not in that file yet.
"""
