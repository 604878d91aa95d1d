"""Adapters sit beside the base: its names, tensors and gradients stay as they were, copies are whole copies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import (
    AdapterModule,
    adapter_tensor_names,
    adapters_of,
    attach,
    insert_adapters,
    remove_adapters,
)
from sitelora.adapters.bottleneck import BottleneckAdapters
from sitelora.adapters.lora import LoRA
from sitelora.method import Method
from sitelora.networks.sam import SamSegmenter
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule

LORA = (LoRA(where="image_encoder", rank=2), LoRA(where="mask_decoder", rank=2))
SPECS = [*LORA, BottleneckAdapters()]


def test_the_bases_names_and_values_stay(tiny_sam: SamSegmenter) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_sam.state_dict().items()}
    insert_adapters(tiny_sam, SPECS, seed=0)
    after = tiny_sam.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert set(after) - set(before) == adapter_tensor_names(tiny_sam)
    assert len(list(adapters_of(tiny_sam))) == 6 + 14 + 12


def test_a_base_checkpoint_loads_into_an_adapted_network(tiny_sam: SamSegmenter) -> None:
    state = {name: tensor + 1 for name, tensor in tiny_sam.state_dict().items()}
    insert_adapters(tiny_sam, SPECS, seed=0)
    missing, unexpected = tiny_sam.load_state_dict(state, strict=False)
    assert set(missing) == adapter_tensor_names(tiny_sam)
    assert not unexpected


@pytest.mark.parametrize("specs", [LORA, [BottleneckAdapters()]], ids=["lora", "bottleneck"])
def test_no_gradient_reaches_the_base(tiny_sam: SamSegmenter, picture: Tensor, specs: list[Any]) -> None:
    share = ShareRule(shared=("**.lora.**",) if specs is LORA else ("**.adapter.**",))
    method = Method(name="m", paper="none", adapters=tuple(specs), share=share, server=WeightedMean())
    partition = method.adapt(tiny_sam, seed=0)
    tiny_sam.train()
    tiny_sam(picture).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in tiny_sam.named_parameters()}
    assert {name for name, gradient in gradients.items() if gradient is not None} == set(partition.trained)
    last = {".B": True, "up.weight": True, ".A": False, "down.weight": False}  # the inner factor waits for the outer
    for ending, moves in last.items():
        assert all(bool(g.any()) == moves for n, g in gradients.items() if g is not None and n.endswith(ending))


def test_a_deep_copy_has_adapters_of_its_own(
    tiny_sam: SamSegmenter, picture: Tensor, fill: Callable[[nn.Module], None]
) -> None:
    insert_adapters(tiny_sam, SPECS, seed=0)
    twin = copy.deepcopy(tiny_sam)
    with torch.no_grad():
        start = tiny_sam(picture)
        fill(twin)
        changed = twin(picture)
        assert torch.equal(tiny_sam(picture), start)
        assert not torch.equal(changed, start)
        fill(tiny_sam)
        assert torch.equal(tiny_sam(picture), changed)
    originals = {id(module) for module in tiny_sam.modules()}
    for _, host, _ in adapters_of(twin):
        assert all(id(hook.__self__) not in originals for hook in host._forward_hooks.values())


def test_removing_gives_the_base_back(
    tiny_sam: SamSegmenter, picture: Tensor, fill: Callable[[nn.Module], None]
) -> None:
    with torch.no_grad():
        before, names = tiny_sam(picture), set(tiny_sam.state_dict())
        insert_adapters(tiny_sam, SPECS, seed=0)
        fill(tiny_sam)
        assert not torch.equal(tiny_sam(picture), before)
        remove_adapters(tiny_sam)
        assert torch.equal(tiny_sam(picture), before)
    assert set(tiny_sam.state_dict()) == names
    insert_adapters(tiny_sam, SPECS, seed=0)  # there is room for new ones


def test_two_roles_add_up_and_one_role_twice_is_refused(
    projections: Any, x: Tensor, fill: Callable[[nn.Module], None]
) -> None:
    roles = [LoRA(where="image_encoder", rank=2, role=role) for role in ("global", "local")]
    with torch.no_grad():
        before = projections(x)["qkv"]
        insert_adapters(projections, roles, seed=0)
        fill(projections)
        t = dict(projections.named_parameters())
        after = projections(x)["qkv"]
        for part, third in (("q", slice(0, 12)), ("v", slice(24, 36))):
            names = [f"image_encoder.attn.qkv.{role}.{part}" for role in ("global", "local")]
            change = sum(t[f"{n}.B"] @ t[f"{n}.A"] for n in names)
            torch.testing.assert_close(after[..., third], before[..., third] + x @ change.T, atol=1e-5, rtol=0)
    assert not torch.equal(t["image_encoder.attn.qkv.global.q.A"], t["image_encoder.attn.qkv.local.q.A"])
    with pytest.raises(ValueError, match="already has 'global'; give the adapter another role"):
        insert_adapters(projections, roles[:1], seed=0)


def test_a_role_cannot_hide_what_the_host_has(projections: Any) -> None:
    with pytest.raises(ValueError, match="Linear already has 'weight'"):
        LoRA(where="image_encoder", role="weight").insert(projections, seed=0)


def test_an_adapter_that_adds_nothing_says_so(x: Tensor) -> None:
    class Silent(AdapterModule):
        pass

    host = nn.Linear(12, 3)
    attach(host, "silent", Silent())
    with pytest.raises(TypeError, match="Silent does not say what it adds"):
        host(x)
