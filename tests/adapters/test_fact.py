"""FacT-TT is h = W0 x + s V S U x with U and V of all blocks, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.base import insert_adapters, merge_adapters, remove_adapters
from sitelora.adapters.fact import FacT
from sitelora.networks.sam import SamSegmenter

SPEC = FacT(rank=3, scale=0.5)


def fill(network: SamSegmenter) -> None:
    nn.init.normal_(network.image_encoder.fact.V, std=0.3, generator=torch.Generator().manual_seed(0))


def test_the_adapted_sam_is_the_base_bit_for_bit(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    with torch.no_grad():
        before = tiny_sam(picture)
        insert_adapters(tiny_sam, [SPEC], seed=0)
        assert torch.equal(tiny_sam(picture), before)


def test_every_block_adds_its_core_between_the_common_factors(tiny_sam: SamSegmenter) -> None:
    x = torch.randn(1, 4, 4, 192, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = [block.attn.qkv(x) for block in tiny_sam.image_encoder.blocks]
        insert_adapters(tiny_sam, [SPEC], seed=0)
        fill(tiny_sam)
        common = tiny_sam.image_encoder.fact
        assert (common.U.shape, common.V.shape) == ((3, 192), (192, 3))
        for block, plain in zip(tiny_sam.image_encoder.blocks, before, strict=True):
            change = block.attn.qkv(x) - plain
            for third, core in ((0, block.attn.qkv.fact.q), (2, block.attn.qkv.fact.v)):
                expected = 0.5 * x @ (common.V @ core @ common.U).T
                rows = slice(third * 192, (third + 1) * 192)
                torch.testing.assert_close(change[..., rows], expected, atol=1e-5, rtol=0)
            assert not change[..., 192:384].any()
    cores = [block.attn.qkv.fact.q for block in tiny_sam.image_encoder.blocks]
    assert not torch.equal(cores[0], cores[1])


def test_a_tenth_of_the_rank_is_dropped_out_in_training_alone(tiny_sam: SamSegmenter) -> None:
    insert_adapters(tiny_sam, [FacT(rank=200)], seed=0)
    fill(tiny_sam)
    qkv = tiny_sam.image_encoder.blocks[0].attn.qkv
    x = torch.ones(1, 1, 1, 192)
    with torch.no_grad():
        whole = qkv(x)
        assert torch.equal(qkv(x), whole)
        qkv.train()
        torch.manual_seed(0)
        several = torch.stack([qkv(x) for _ in range(50)])
        assert not torch.equal(several[0], several[1])
        assert (several.mean(0) - whole).norm() < 0.15 * (several[0] - whole).norm() * 2


def test_merged_it_gives_the_same_with_and_without_the_adapters(tiny_sam: SamSegmenter, picture: Tensor) -> None:
    names = set(tiny_sam.state_dict())
    insert_adapters(tiny_sam, [SPEC], seed=0)
    fill(tiny_sam)
    with torch.no_grad():
        unmerged = tiny_sam(picture)
        merge_adapters(tiny_sam)
        torch.testing.assert_close(tiny_sam(picture), unmerged, atol=1e-4, rtol=1e-4)
        remove_adapters(tiny_sam)
        torch.testing.assert_close(tiny_sam(picture), unmerged, atol=1e-4, rtol=1e-4)
    assert set(tiny_sam.state_dict()) == names


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"declares no part @"):
        SPEC.insert(nn.Linear(2, 2), seed=0)
