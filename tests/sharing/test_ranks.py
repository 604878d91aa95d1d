"""Ranks that differ by site: what the wire cuts and a site fills, and that zeros train like the smaller rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sitelora.adapters.low_rank import LowRankPair
from sitelora.sharing.ranks import HALVING, SiteRanks

RANKS = SiteRanks(rank=6, by_site={"small": 2})


def packet() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x.lora.A": (6, 5), "x.lora.B": (7, 6), "@control/x.lora.B": (7, 6), "head.weight": (3, 6)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_rows_of_a_and_columns_of_b_are_cut_and_nothing_else() -> None:
    cut, whole = RANKS.cut(packet(), "small"), packet()
    assert torch.equal(cut["x.lora.A"], whole["x.lora.A"][:2])
    assert torch.equal(cut["x.lora.B"], whole["x.lora.B"][:, :2])
    assert torch.equal(cut["@control/x.lora.B"], whole["@control/x.lora.B"][:, :2])
    assert torch.equal(cut["head.weight"], whole["head.weight"])
    assert all(tensor.is_contiguous() for tensor in cut.values())
    shapes = {name: tuple(tensor.shape) for name, tensor in whole.items()}
    assert RANKS.cut_shapes(shapes, "small") == {name: tuple(tensor.shape) for name, tensor in cut.items()}


def test_filling_restores_the_shape_with_zeros() -> None:
    whole, filled = packet(), RANKS.padded(RANKS.cut(packet(), "small"))
    for name in whole:
        assert filled[name].shape == whole[name].shape
    assert not filled["x.lora.A"][2:].any()
    assert not filled["x.lora.B"][:, 2:].any()
    assert torch.equal(filled["x.lora.A"][:2], whole["x.lora.A"][:2])
    assert torch.equal(filled["head.weight"], whole["head.weight"])


def test_a_site_of_the_full_rank_and_a_method_without_ranks_cut_nothing() -> None:
    for ranks, site in ((RANKS, "large"), (SiteRanks(), "small")):
        assert all(torch.equal(t, packet()[name]) for name, t in ranks.cut(packet(), site).items())
        assert all(torch.equal(t, packet()[name]) for name, t in ranks.padded(packet()).items())
    assert SiteRanks().of("small") is None
    assert SiteRanks(rank=1, rule=HALVING).of("site-3") == 1


@pytest.mark.parametrize("rank", [0, 7])
def test_a_rank_that_cannot_be_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=rf"site-1 has rank {rank}; expected 1 to 6"):
        SiteRanks(rank=6, by_site={"site-1": rank})
    with pytest.raises(ValueError, match="rule of the ranks is 'random'"):
        SiteRanks(rank=6, rule="random")


def trained(pair: LowRankPair) -> LowRankPair:
    """Thirty steps of AdamW with weight decay toward a product of full rank."""
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(3))
    y = torch.randn(40, 7, generator=torch.Generator().manual_seed(4))
    optimizer = torch.optim.AdamW(pair.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.mse_loss(pair(x), y).backward()
        optimizer.step()
    return pair


def test_zeros_train_like_the_smaller_rank_and_stay_zero() -> None:
    start = RANKS.cut(packet(), "small")

    def pair(rank: int, values: dict[str, Tensor]) -> LowRankPair:
        made = LowRankPair(rank=rank, d_in=5, rows=slice(0, 7), scale=1.0, seed=0, name="x.lora")
        made.A.data, made.B.data = values["x.lora.A"].clone(), values["x.lora.B"].clone()
        return trained(made)

    filled, small = pair(6, RANKS.padded(start)), pair(2, start)
    assert not filled.A[2:].any()
    assert not filled.B[:, 2:].any()
    torch.testing.assert_close(filled.A[:2], small.A, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(filled.B[:, :2], small.B, atol=1e-5, rtol=1e-4)
    assert float((small.A.detach() - start["x.lora.A"]).abs().max()) > 0.1
