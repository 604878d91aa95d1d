"""DoRA is W' = m V / |V| with V = W0 + s B A, column by column, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import insert_adapters, merge_adapters
from sitelora.adapters.dora import DoRA
from sitelora.adapters.lora import set_base_delta
from sitelora.networks.precision import set_precision
from sitelora.networks.sam import SamSegmenter

BOTH = (DoRA(where="image_encoder", rank=3, scale=0.5), DoRA(where="mask_decoder", rank=2))


def test_the_adapted_sam_is_the_base(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    with torch.no_grad():
        before = tiny_sam(picture)
        insert_adapters(tiny_sam, BOTH, seed=0)
        torch.testing.assert_close(tiny_sam(picture), before, atol=1e-5, rtol=0)


def test_every_column_has_the_length_m(projections: Any, x: Tensor, fill: Callable[[nn.Module], None]) -> None:
    with torch.no_grad():
        insert_adapters(projections, BOTH, seed=0)
        fill(projections)
        t = dict(projections.named_parameters())
        for host, pair, rows, scale, name in (
            ("image_encoder.attn.qkv", "image_encoder.attn.qkv.lora.q", slice(0, 12), 0.5, "qkv"),
            ("image_encoder.attn.qkv", "image_encoder.attn.qkv.lora.v", slice(24, 36), 0.5, "qkv"),
            ("mask_decoder.attn.v_proj", "mask_decoder.attn.v_proj.lora", slice(0, 6), 1.0, "v_proj"),
        ):
            base = t[f"{host}.weight"][rows]
            assert torch.allclose(t[f"{pair}.m"], base.norm(dim=0))
            t[f"{pair}.m"].mul_(torch.linspace(0.5, 2, 12))
            directed = base + scale * t[f"{pair}.B"] @ t[f"{pair}.A"]
            weight = t[f"{pair}.m"] * directed / directed.norm(dim=0, keepdim=True)
            expected = x @ weight.T + t[f"{host}.bias"][rows]
            torch.testing.assert_close(projections(x)[name][..., rows], expected, atol=1e-5, rtol=0)


def test_merged_it_gives_the_same(tiny_sam: SamSegmenter, picture: Tensor, fill: Callable[[nn.Module], None]) -> None:
    insert_adapters(tiny_sam, BOTH, seed=0)
    fill(tiny_sam)
    with torch.no_grad():
        unmerged = tiny_sam(picture)
        merge_adapters(tiny_sam)
        torch.testing.assert_close(tiny_sam(picture), unmerged, atol=1e-4, rtol=1e-4)


def test_the_lengths_get_no_gradient_through_the_norm(projections: Any, x: Tensor) -> None:
    insert_adapters(projections, BOTH[:1], seed=0)
    pair = projections.image_encoder.attn.qkv.lora.q
    nn.init.normal_(pair.B, generator=torch.Generator().manual_seed(0))
    projections(x)["qkv"][..., :12].sum().backward()
    with torch.no_grad():
        rows = projections.image_encoder.attn.qkv.weight[:12]
        factors = pair.m / (rows + 0.5 * pair.B @ pair.A).norm(dim=0)
        inputs = x.sum((0, 1)) * factors
    torch.testing.assert_close(pair.B.grad, 0.5 * (pair.A @ inputs).expand_as(pair.B), atol=1e-4, rtol=1e-4)
    assert pair.m.grad is not None


@pytest.mark.usefixtures("bf16_anywhere")
def test_it_runs_beside_a_base_in_bf16(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    with torch.no_grad():
        before = tiny_sam(picture)
        insert_adapters(tiny_sam, BOTH, seed=0)
        tiny_sam.requires_grad_(False)
        set_precision(tiny_sam, "bf16")
        after = tiny_sam(picture)
    assert (after - before).norm() < 0.05 * before.norm()
    assert {p.dtype for name, p in tiny_sam.named_parameters() if ".lora." in name} == {torch.float32}


def test_a_base_delta_is_refused(projections: Any, x: Tensor) -> None:
    insert_adapters(projections, BOTH[:1], seed=0)
    set_base_delta(projections, {"image_encoder.attn.qkv.lora.q": (torch.ones(12, 1), torch.ones(1, 12))})
    with pytest.raises(TypeError, match="without a base delta"):
        projections(x)
