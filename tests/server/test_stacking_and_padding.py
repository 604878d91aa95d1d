"""FLoRA's stack, HetLoRA's weights by norm, FlexLoRA's nested truncations, and the splits of singular values."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sitelora.server.lowrank import truncated_svd
from sitelora.server.mean import mean_of_values
from sitelora.server.product import ProductMeanSVD, split_factors
from sitelora.server.sparsity import SparsityWeightedMean, norm_weights
from sitelora.server.stack import Stacking
from sitelora.server.types import ANY_SITE, Update
from sitelora.sharing.ranks import SiteRanks

Make = Callable[..., dict[str, Update]]
MeanProduct = Callable[[dict[str, Update], str], Tensor]
ADAPTERS = ("enc.lora.q", "dec.lora")


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_stack_is_the_mean_product_and_the_pairs_begin_anew(make_updates: Make, mean_product: MeanProduct) -> None:
    updates = make_updates(s1=5, s2=1, s3=2)
    message = Stacking()(updates, {}, 0)[0][ANY_SITE]
    assert sorted(message.base_delta) == sorted(ADAPTERS)
    for adapter in ADAPTERS:
        left, right = message.base_delta[adapter]
        assert left.shape[1] == right.shape[0] == 9  # three sites of rank 3
        assert distance(left.double() @ right.double(), mean_product(updates, adapter)) < 1e-6
        assert torch.equal(left[:, :3], updates["s1"].values[f"{adapter}.B"])  # the weight is in A alone
        assert not message.values[f"{adapter}.B"].any()
        a, before = message.values[f"{adapter}.A"], updates["s1"].received[f"{adapter}.A"]
        assert a.shape == before.shape
        assert abs(float(a.std()) * math.sqrt(a.shape[1]) - 1) < 0.35
        assert float((a - before).abs().max()) > 0.01
    assert torch.equal(message.values["head.w"], mean_of_values(updates)["head.w"])


def test_fresh_factors_differ_by_round_and_by_adapter_and_repeat_in_a_run_done_again(make_updates: Make) -> None:
    updates = make_updates(s1=1, s2=1)
    one, again = (Stacking()(updates, {}, 0)[0][ANY_SITE] for _ in range(2))
    assert all(torch.equal(one.values[name], again.values[name]) for name in one.values)
    received = {**updates["s1"].received, **{f"{a}.A": one.values[f"{a}.A"] for a in ADAPTERS}}
    later = {site: Update(values=u.values, received=received) for site, u in updates.items()}
    other = Stacking()(later, {}, 1)[0][ANY_SITE]
    assert not torch.equal(one.values["dec.lora.A"], other.values["dec.lora.A"])
    assert not torch.equal(one.values["dec.lora.A"], one.values["enc.lora.q.A"][:, :16])


def test_a_site_weighs_by_the_norm_of_its_product() -> None:
    b, a = torch.ones(4, 2), torch.ones(2, 3)
    weights = norm_weights({"x": (b, a), "y": (3 * b, a), "z": (torch.zeros(4, 2), a)})
    assert weights == pytest.approx({"x": 0.25, "y": 0.75, "z": 0.0})
    assert norm_weights({"x": (0 * b, a)}) is None


def test_sparsity_weights_ignore_cases_for_pairs_and_use_them_for_the_rest(make_updates: Make) -> None:
    few, many = (SparsityWeightedMean()(make_updates(s1=c, s2=1), {}, 0)[0][ANY_SITE] for c in (1, 9))
    assert torch.equal(few.values["dec.lora.A"], many.values["dec.lora.A"])
    assert not torch.equal(few.values["head.w"], many.values["head.w"])
    assert torch.equal(many.values["head.w"], mean_of_values(make_updates(s1=9, s2=1))["head.w"])


def test_without_any_product_sites_weigh_by_cases() -> None:
    values = {"x.A": torch.ones(2, 3), "x.B": torch.zeros(4, 2)}
    other = {"x.A": torch.zeros(2, 3), "x.B": torch.zeros(4, 2)}
    updates = {
        "s1": Update(values=values, received=values, cases=3),
        "s2": Update(values=other, received=other, cases=1),
    }
    message = SparsityWeightedMean()(updates, {}, 0)[0][ANY_SITE]
    assert torch.equal(message.values["x.A"], torch.full((2, 3), 0.75))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_cutting_lora_svds_factors_gives_the_best_product_of_the_smaller_rank(
    make_updates: Make, mean_product: MeanProduct, rank: int
) -> None:
    updates = make_updates(s1=2, s2=1, s3=4)
    message = ProductMeanSVD()(updates, {}, 0)[0][ANY_SITE]
    cut = SiteRanks(rank=3, by_site={"site": rank}).cut(message.values, "site")
    for adapter in ADAPTERS:
        u, s, vh = torch.linalg.svd(mean_product(updates, adapter), full_matrices=False)
        best = (u[:, :rank] * s[:rank]) @ vh[:rank]
        assert distance(cut[f"{adapter}.B"].double() @ cut[f"{adapter}.A"].double(), best) < 1e-6


def test_a_rank_that_a_round_does_not_fill_keeps_a_factor_that_can_train() -> None:
    """Two sites of rank 2 in factors of rank 6: with all singular values in A, the further columns of B stay whole."""
    generator = torch.Generator().manual_seed(0)
    ranks = SiteRanks(rank=6)
    small = {"x.A": torch.randn(2, 9, generator=generator), "x.B": torch.randn(8, 2, generator=generator)}
    values = ranks.padded(small)
    message = ProductMeanSVD()({"s1": Update(values=values, received=values)}, {}, 0)[0][ANY_SITE]
    b, a = message.values["x.B"], message.values["x.A"]
    torch.testing.assert_close(b.T @ b, torch.eye(6), atol=1e-5, rtol=0)
    assert float(a[2:].abs().max()) < 1e-6


@pytest.mark.parametrize("split", ["A", "B", "symmetric"])
def test_every_split_has_the_same_product(split: str) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(8, 6, generator=generator, dtype=torch.float64)
    right = torch.randn(6, 7, generator=generator, dtype=torch.float64)
    u, s, vh, _ = truncated_svd(left, right, 4)
    b, a = split_factors(u, s, vh, split)
    torch.testing.assert_close(b.double() @ a.double(), (u * s) @ vh, atol=1e-5, rtol=1e-5)
    expected = {"A": torch.ones(4), "B": s.float(), "symmetric": s.float().sqrt()}[split]
    torch.testing.assert_close(b.norm(dim=0), expected, atol=1e-5, rtol=1e-5)
