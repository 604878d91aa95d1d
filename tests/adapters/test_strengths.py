"""Adapters of different strength: a factor of a role's output, of what is merged, and zero is absence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import insert_adapters, merge_adapters
from sitelora.adapters.lora import LoRA, set_strengths
from sitelora.adapters.low_rank import LowRankPair

PARTS = ("image_encoder", "mask_decoder")
DUAL = [LoRA(where=part, rank=2, scale=2.0, role=role) for role in ("global", "local") for part in PARTS]


def outputs(network: nn.Module, x: Tensor, **strengths: float) -> Tensor:
    set_strengths(network, strengths)
    with torch.no_grad():
        return torch.cat([tensor.flatten() for tensor in network(x).values()])


def test_outputs_add_up_by_strength(projections: nn.Module, x: Tensor, fill: Callable[[nn.Module], None]) -> None:
    with torch.no_grad():
        base = torch.cat([tensor.flatten() for tensor in projections(x).values()])
    insert_adapters(projections, DUAL, seed=0)
    fill(projections)
    ours, theirs = outputs(projections, x, local=0) - base, outputs(projections, x, **{"global": 0}) - base
    assert float(ours.norm()) > 1
    torch.testing.assert_close(outputs(projections, x, local=0.3, **{"global": 0.7}), base + 0.7 * ours + 0.3 * theirs)
    torch.testing.assert_close(outputs(projections, x), base + ours + theirs)
    assert torch.equal(outputs(projections, x, local=0, **{"global": 0}), base)


def test_an_adapter_at_zero_has_no_gradient(projections: nn.Module, x: Tensor) -> None:
    insert_adapters(projections, DUAL, seed=0)
    set_strengths(projections, {"local": 0.0})
    sum(tensor.sum() for tensor in projections(x).values()).backward()
    for name, parameter in projections.named_parameters():
        if ".local." in name:
            assert parameter.grad is None
        elif ".global." in name:
            assert parameter.grad is not None


def test_what_is_merged_has_the_strength(projections: nn.Module, x: Tensor, fill: Callable[[nn.Module], None]) -> None:
    insert_adapters(projections, DUAL, seed=0)
    fill(projections)
    expected = outputs(projections, x, local=0.3, **{"global": 0.7})
    merge_adapters(projections)
    with torch.no_grad():
        merged = torch.cat([tensor.flatten() for tensor in projections(x).values()])
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=1e-5)


def test_a_role_that_is_not_there_is_refused(projections: nn.Module) -> None:
    insert_adapters(projections, DUAL, seed=0)
    with pytest.raises(
        ValueError, match=r"the role 'personal', but the network's LoRA roles are \['global', 'local'\]"
    ):
        set_strengths(projections, {"personal": 1.0})
    assert {m.strength for m in projections.modules() if isinstance(m, LowRankPair)} == {1.0}
