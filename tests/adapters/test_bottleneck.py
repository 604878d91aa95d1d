"""Bottleneck adapters: x + up(GELU(down(x))) after the attention, scale times it beside the MLP; zero at first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sitelora.adapters.base import adapter_tensor_names, insert_adapters
from sitelora.adapters.bottleneck import BottleneckAdapters
from sitelora.networks.sam import SamSegmenter

SPEC = BottleneckAdapters(reduction=8, mlp_scale=0.25)


def test_the_adapted_sam_is_the_base_bit_for_bit(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    with torch.no_grad():
        before = tiny_sam(picture)
        insert_adapters(tiny_sam, [SPEC], seed=0)
        assert torch.equal(tiny_sam(picture), before)


@pytest.mark.parametrize(("part", "scale", "reads"), [("attn", 1.0, "output"), ("mlp", 0.25, "input")])
def test_the_branch_is_added_after_the_attention_and_beside_the_mlp(
    tiny_sam: SamSegmenter, part: str, scale: float, reads: str
) -> None:
    host = getattr(tiny_sam.image_encoder.blocks[1], part)
    x = torch.randn(1, 4, 4, 192, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = host(x)
        insert_adapters(tiny_sam, [SPEC], seed=0)
        down, up = host.adapter.down, host.adapter.up
        assert (down.in_features, down.out_features, up.out_features) == (192, 24, 192)
        nn.init.normal_(up.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(up.bias, generator=torch.Generator().manual_seed(2))
        branch = up(functional.gelu(down(before if reads == "output" else x)))
        torch.testing.assert_close(host(x), before + scale * branch)


def test_initial_values_depend_on_seed_and_name_alone(tiny_sam: SamSegmenter) -> None:
    def draw(seed: int, global_seed: int) -> dict[str, Tensor]:
        network = SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True)
        torch.manual_seed(global_seed)
        insert_adapters(network, [SPEC], seed=seed)
        return {name: network.state_dict()[name] for name in adapter_tensor_names(network)}

    first, again, other = draw(0, 1), draw(0, 2), draw(1, 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    down = [name for name in first if name.endswith("down.weight")]
    assert len(down) == 12
    assert not any(torch.equal(first[name], other[name]) for name in down)
    assert len({float(first[name][0, 0]) for name in down}) == 12
    assert not any(first[name].any() for name in set(first) - set(down))


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"declares no part @"):
        SPEC.insert(nn.Linear(2, 2), seed=0)
