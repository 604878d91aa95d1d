"""A mixture is h = W0 x + s sum_e g_e B_e A_e x; the gates belong to an attention, are positive and sum to 1."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import adapter_tensor_names, insert_adapters, merge_adapters, remove_adapters
from sitelora.adapters.mixture import Mixture
from sitelora.networks.sam import SamSegmenter

BOTH = (Mixture(where="image_encoder", rank=3, scale=0.5), Mixture(where="mask_decoder", rank=2, experts=2))


def gates(z: Tensor) -> Tensor:
    powers = z.sigmoid().exp()
    return powers / powers.sum()


def test_the_adapted_sam_is_the_base_bit_for_bit(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    with torch.no_grad():
        before = tiny_sam(picture)
        insert_adapters(tiny_sam, BOTH, seed=0)
        assert torch.equal(tiny_sam(picture), before)
    names = adapter_tensor_names(tiny_sam)
    assert len(names) == 6 * (1 + 2 * 3 * 2) + 7 * (1 + 2 * 2 * 2)
    assert "image_encoder.blocks.0.attn.lora_gates.z" in names
    assert "image_encoder.blocks.0.attn.qkv.lora.q.2.B" in names
    assert "mask_decoder.transformer.layers.0.self_attn.v_proj.lora.1.A" in names


def test_experts_add_up_by_their_gates(projections: Any, x: Tensor, fill: Callable[[nn.Module], None]) -> None:
    with torch.no_grad():
        before = projections(x)
        insert_adapters(projections, BOTH, seed=0)
        fill(projections)
        t, after = dict(projections.named_parameters()), projections(x)
        for name, pair, z, rows, scale, experts in (
            ("qkv", "image_encoder.attn.qkv.lora.q", "image_encoder", slice(0, 12), 0.5, 3),
            ("qkv", "image_encoder.attn.qkv.lora.v", "image_encoder", slice(24, 36), 0.5, 3),
            ("q_proj", "mask_decoder.attn.q_proj.lora", "mask_decoder", slice(0, 6), 1.0, 2),
            ("v_proj", "mask_decoder.attn.v_proj.lora", "mask_decoder", slice(0, 6), 1.0, 2),
        ):
            weights = gates(t[f"{z}.attn.lora_gates.z"])
            assert len(weights) == experts
            change = sum(weights[e] * t[f"{pair}.{e}.B"] @ t[f"{pair}.{e}.A"] for e in range(experts))
            expected = before[name][..., rows] + scale * x @ change.T
            torch.testing.assert_close(after[name][..., rows], expected, atol=1e-5, rtol=0)


def test_gates_are_trained_and_a_copy_has_its_own(
    projections: Any, x: Tensor, fill: Callable[[nn.Module], None]
) -> None:
    insert_adapters(projections, BOTH, seed=0)
    fill(projections)
    twin = copy.deepcopy(projections)
    with torch.no_grad():
        before = projections(x)["qkv"]
        twin.image_encoder.attn.lora_gates.z.copy_(torch.tensor([9.0, -9.0, -9.0]))
        assert torch.equal(projections(x)["qkv"], before)
        assert not torch.equal(twin(x)["qkv"], before)
    projections(x)["qkv"].square().sum().backward()
    gradient = projections.image_encoder.attn.lora_gates.z.grad
    assert gradient is not None
    assert bool(gradient.any())


def test_merged_it_gives_the_same_and_leaves_nothing_behind(
    tiny_sam: SamSegmenter, picture: Tensor, fill: Callable[[nn.Module], None]
) -> None:
    names = set(tiny_sam.state_dict())
    insert_adapters(tiny_sam, BOTH, seed=0)
    fill(tiny_sam)
    with torch.no_grad():
        unmerged = tiny_sam(picture)
        merge_adapters(tiny_sam)
        remove_adapters(tiny_sam)
        torch.testing.assert_close(tiny_sam(picture), unmerged, atol=1e-4, rtol=1e-4)
    assert set(tiny_sam.state_dict()) == names


def test_one_expert_is_refused() -> None:
    with pytest.raises(ValueError, match="experts is 1; a mixture needs at least 2"):
        Mixture(where="image_encoder", experts=1)
