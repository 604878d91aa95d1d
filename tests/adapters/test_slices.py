"""MA-SAM's 3-D adapters: x + up(GELU(conv(down(norm(x))))) before attention and MLP, over one volume's slices."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sitelora.adapters.base import adapters_of, insert_adapters, merge_adapters, remove_adapters
from sitelora.adapters.slices import SliceAdapter, SliceAdapters
from sitelora.networks.sam import SamSegmenter

SPEC = SliceAdapters()


def fill(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(4)
    for module in network.modules():
        if isinstance(module, SliceAdapter):
            nn.init.normal_(module.up.weight, std=0.3, generator=generator)


def stack(slices: int = 3) -> Tensor:
    return torch.rand(2, 1, 32, 32, slices, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("image", [stack(), stack()[..., 0]], ids=["volume", "picture"])
def test_the_adapted_sam_is_the_base_bit_for_bit(tiny_sam: SamSegmenter, image: Tensor) -> None:
    with torch.no_grad():
        before = tiny_sam(image)
        insert_adapters(tiny_sam, [SPEC], seed=0)
        assert torch.equal(tiny_sam(image), before)
    assert len(list(adapters_of(tiny_sam))) == 12


def test_a_block_reads_x_with_its_branch_and_so_does_its_mlp(tiny_sam: SamSegmenter) -> None:
    block = tiny_sam.image_encoder.blocks[2]
    plain = copy.deepcopy(block)
    insert_adapters(tiny_sam, [SPEC], seed=0)
    fill(tiny_sam)
    tiny_sam.image_encoder.slices = 3
    x = torch.randn(6, 4, 4, 192, generator=torch.Generator().manual_seed(6))

    def branch(adapter: SliceAdapter, x: Tensor) -> Tensor:
        inner = functional.linear(adapter.norm(x), adapter.down.weight)
        volumes = functional.pad(inner.unflatten(0, (2, 3)), (0, 0, 0, 0, 0, 0, 1, 1))
        weight = adapter.conv.weight[..., 0, 0]
        mixed = sum(volumes[:, k : k + 3] @ weight[..., k].T for k in range(3)) + adapter.conv.bias
        return functional.linear(functional.gelu(mixed.flatten(0, 1)), adapter.up.weight)

    with torch.no_grad():
        seen = []
        plain.mlp.register_forward_hook(lambda host, inputs, output: torch.zeros_like(output))
        y = x + branch(block.slices, x)
        attended = plain(y)  # the MLP is silent
        z = attended + branch(block.norm2.slices, attended)
        plain.mlp._forward_hooks.clear()
        expected = z + plain.mlp(plain.norm2(z))
        block.register_forward_hook(lambda host, inputs, output: seen.append(output))
        torch.testing.assert_close(block(x), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(seen[0], expected, atol=1e-4, rtol=1e-4)


def test_slices_of_a_volume_see_each_other_and_no_other_volume(tiny_sam: SamSegmenter) -> None:
    insert_adapters(tiny_sam, [SPEC], seed=0)
    fill(tiny_sam)
    volumes = stack(5)
    other = volumes.clone()
    other[0, ..., 0] = 0.5
    with torch.no_grad():
        change = (tiny_sam(other) - tiny_sam(volumes)).abs().amax((1, 2, 3))
    assert (change[0] > 0).all()  # six blocks reach further than five slices
    assert not change[1].any()


def test_a_picture_is_a_volume_of_one_slice(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    insert_adapters(tiny_sam, [SPEC], seed=0)
    fill(tiny_sam)
    with torch.no_grad():
        tiny_sam(stack())
        torch.testing.assert_close(tiny_sam(picture), tiny_sam(picture[..., None])[..., 0])


def test_a_batch_that_is_no_whole_volumes_is_refused(tiny_sam: SamSegmenter) -> None:
    insert_adapters(tiny_sam, [SPEC], seed=0)
    tiny_sam.image_encoder.slices = 4
    with pytest.raises(ValueError, match="found 6 slices in a batch, expected a multiple of the 4 of a volume"):
        tiny_sam.image_encoder.blocks[0](torch.zeros(6, 4, 4, 192))


def test_it_cannot_be_merged_and_removing_gives_the_base_back(tiny_sam: SamSegmenter) -> None:
    with torch.no_grad():
        before, names = tiny_sam(stack()), set(tiny_sam.state_dict())
        insert_adapters(tiny_sam, [SPEC], seed=0)
        fill(tiny_sam)
        assert not torch.equal(tiny_sam(stack()), before)
        with pytest.raises(TypeError, match="SliceAdapter cannot be merged"):
            merge_adapters(tiny_sam)
        remove_adapters(tiny_sam)
        assert torch.equal(tiny_sam(stack()), before)
    assert set(tiny_sam.state_dict()) == names


def test_a_copy_has_adapters_of_its_own(tiny_sam: SamSegmenter) -> None:
    insert_adapters(tiny_sam, [SPEC], seed=0)
    twin = copy.deepcopy(tiny_sam)
    with torch.no_grad():
        before = tiny_sam(stack())
        fill(twin)
        assert torch.equal(tiny_sam(stack()), before)
        assert not torch.equal(twin(stack()), before)


def test_a_network_in_training_can_be_copied(tiny_sam: SamSegmenter) -> None:
    """What a forward pass leaves behind is nothing that belongs to its graph."""
    insert_adapters(tiny_sam, [SPEC], seed=0)
    tiny_sam(stack()).square().mean().backward()
    copy.deepcopy(tiny_sam)
