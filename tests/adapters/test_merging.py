"""Merging adds s B A to the base's weights, unmerging gives them back bit for bit; base deltas act beside the base."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import insert_adapters, merge_adapters, remove_adapters
from sitelora.adapters.bottleneck import BottleneckAdapters
from sitelora.adapters.lora import LoRA, set_base_delta
from sitelora.adapters.low_rank import LowRankPair
from sitelora.networks.sam import SamSegmenter

LORA = (
    LoRA(where="image_encoder", rank=3, scale=0.5),
    LoRA(where="mask_decoder", rank=2),
    LoRA(where="image_encoder", rank=2, role="local"),
)
Fill = Callable[[nn.Module], None]


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 4


def deltas_for(network: nn.Module, rank: int = 4) -> dict[str, tuple[Tensor, Tensor]]:
    pairs = [(name, m) for name, m in network.named_modules() if isinstance(m, LowRankPair)]
    return {
        name: (gaussian(pair.B.shape[0], rank, seed=number), gaussian(rank, pair.A.shape[1], seed=1000 + number))
        for number, (name, pair) in enumerate(pairs)
    }


@pytest.mark.parametrize("with_delta", [False, True])
def test_merged_is_adapted(tiny_sam: SamSegmenter, picture: Tensor, fill: Fill, with_delta: bool) -> None:
    weights = {name: tensor.clone() for name, tensor in tiny_sam.state_dict().items()}
    insert_adapters(tiny_sam, LORA, seed=0)
    fill(tiny_sam)
    if with_delta:
        set_base_delta(tiny_sam, deltas_for(tiny_sam))
    with torch.no_grad():
        adapted = tiny_sam(picture)
        merge_adapters(tiny_sam)
        merged = tiny_sam(picture)
        torch.testing.assert_close(merged, adapted, atol=1e-4 * float(adapted.abs().max()), rtol=0)
        moved = [name for name, tensor in weights.items() if not torch.equal(tiny_sam.state_dict()[name], tensor)]
        assert len(moved) == 6 + 14


def test_a_merged_network_needs_no_adapters(tiny_sam: SamSegmenter, picture: Tensor, fill: Fill) -> None:
    insert_adapters(tiny_sam, LORA, seed=0)
    fill(tiny_sam)
    with torch.no_grad():
        merge_adapters(tiny_sam)
        merged = tiny_sam(picture)
        remove_adapters(tiny_sam)
        assert torch.equal(tiny_sam(picture), merged)


def test_a_bf16_weight_stays_bf16(projections: Any, fill: Fill) -> None:
    projections.to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in projections.state_dict().items()}
    insert_adapters(projections, LORA[:2], seed=0)
    fill(projections)
    merge_adapters(projections)
    assert projections.image_encoder["attn"]["qkv"].weight.dtype == torch.bfloat16
    assert not torch.equal(projections.image_encoder["attn"]["qkv"].weight, before["image_encoder.attn.qkv.weight"])


def test_merging_twice_is_refused(projections: Any) -> None:
    insert_adapters(projections, LORA[:2], seed=0)
    merge_adapters(projections)
    with pytest.raises(RuntimeError, match="is merged already"):
        merge_adapters(projections)


def test_one_adapter_that_cannot_be_merged_leaves_all_unmerged(tiny_sam: SamSegmenter, fill: Fill) -> None:
    insert_adapters(tiny_sam, [*LORA, BottleneckAdapters()], seed=0)
    fill(tiny_sam)
    before = {name: tensor.clone() for name, tensor in tiny_sam.state_dict().items()}
    with pytest.raises(TypeError, match=r"image_encoder\.blocks\.0\.attn\.adapter: Bottleneck cannot be merged"):
        merge_adapters(tiny_sam)
    assert all(torch.equal(tiny_sam.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_base_delta_acts_as_if_added_to_the_weight(projections: Any, x: Tensor, fill: Fill) -> None:
    insert_adapters(projections, LORA[:2], seed=0)
    fill(projections)
    deltas = deltas_for(projections)
    with torch.no_grad():
        plain = projections(x)
        set_base_delta(projections, deltas)
        beside = projections(x)
        set_base_delta(projections, {})
        assert all(torch.equal(projections(x)[name], tensor) for name, tensor in plain.items())  # beside, never into
        tensors = dict(projections.named_parameters())
        for adapter, (left, right) in deltas.items():
            host, _, part = adapter.partition(".lora")
            scale, rows = (0.5, {".q": slice(0, 12), ".v": slice(24, 36)}[part]) if part else (1.0, slice(0, 6))
            tensors[f"{host}.weight"][rows] += scale * (left @ right)
        into = projections(x)
    for name in plain:
        torch.testing.assert_close(beside[name], into[name], atol=1e-5, rtol=0)
        assert torch.equal(beside[name], plain[name]) == (name in ("k_proj", "out_proj", "mlp"))


def test_new_base_deltas_replace_the_old_ones(projections: Any, x: Tensor, fill: Fill) -> None:
    insert_adapters(projections, LORA[:2], seed=0)
    fill(projections)
    deltas = deltas_for(projections)
    with torch.no_grad():
        set_base_delta(projections, deltas)
        once = projections(x)["qkv"]
        set_base_delta(projections, deltas)
        assert torch.equal(projections(x)["qkv"], once)


def test_a_base_delta_for_nothing_or_of_another_size_is_refused_by_name(projections: Any) -> None:
    insert_adapters(projections, LORA[:2], seed=0)
    with pytest.raises(ValueError, match=r"base delta for neck\.lora, but the network has no such adapter"):
        set_base_delta(projections, {"neck.lora": (torch.zeros(6, 1), torch.zeros(1, 12))})
    name = "mask_decoder.attn.q_proj.lora"
    with pytest.raises(ValueError, match=r"mask_decoder.*\(7, 1\) x \(1, 12\) does not fit an adapter of 6 x 12"):
        set_base_delta(projections, {name: (torch.zeros(7, 1), torch.zeros(1, 12))})


def test_a_base_delta_follows_its_network_and_is_in_no_state_dict() -> None:
    """As buffers that are not persistent: on another device a tuple would stay behind."""
    network = nn.Sequential(nn.Linear(6, 4))
    pair = LowRankPair(rank=2, d_in=6, rows=slice(0, 4), scale=1.0, seed=0, name="x")
    network.add_module("pair", pair)
    assert pair.delta is None
    pair.delta = (torch.ones(4, 1), torch.ones(1, 6))
    moved = copy.deepcopy(network).double()
    assert moved.pair.delta is not None
    assert {factor.dtype for factor in moved.pair.delta} == {torch.float64}
    assert pair.delta is not None
    assert {factor.dtype for factor in pair.delta} == {torch.float32}
    assert not [name for name in network.state_dict() if "delta" in name]
    pair.delta = None
    assert pair.delta is None
