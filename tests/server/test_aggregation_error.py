"""The record's numbers of an aggregation against the dense ones: how far mean factors are, what a truncation lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sitelora.server.aggregation_error import TRUNCATION, round_numbers
from sitelora.server.mean import WeightedMean, mean_of_values
from sitelora.server.product import ProductMeanSVD
from sitelora.server.residual import MeanWithResidual
from sitelora.server.stack import Stacking
from sitelora.server.types import Update

Make = Callable[..., dict[str, Update]]
MeanProduct = Callable[[dict[str, Update], str], Tensor]
ADAPTERS = ("enc.lora.q", "dec.lora")


def test_the_meter_is_the_dense_distance_of_the_mean_factors(make_updates: Make, mean_product: MeanProduct) -> None:
    updates = make_updates(s1=5, s2=1, s3=2)
    numbers, details = round_numbers(WeightedMean(), updates, WeightedMean()(updates, {}, 0)[0])
    mean = mean_of_values(updates)
    dense = {a: mean_product(updates, a) for a in ADAPTERS}
    naive = {a: mean[f"{a}.B"].double() @ mean[f"{a}.A"].double() for a in ADAPTERS}
    for adapter in ADAPTERS:
        expected = float((naive[adapter] - dense[adapter]).norm() / dense[adapter].norm())
        assert details["layers"][adapter]["averaging_error"] == pytest.approx(expected, rel=1e-3)
        assert details["layers"][adapter]["product_error"] == pytest.approx(expected, rel=1e-3)
    whole = torch.cat([dense[a].flatten() for a in ADAPTERS])
    error = torch.cat([(naive[a] - dense[a]).flatten() for a in ADAPTERS])
    assert numbers["averaging_error"] == pytest.approx(float(error.norm() / whole.norm()), rel=1e-3)
    assert TRUNCATION not in numbers


def test_a_truncation_is_named_with_its_largest_loss(make_updates: Make, mean_product: MeanProduct) -> None:
    updates = make_updates(s1=5, s2=1, s3=2)
    numbers, details = round_numbers(ProductMeanSVD(), updates, ProductMeanSVD()(updates, {}, 0)[0])
    lost = {}
    for adapter in ADAPTERS:
        s = torch.linalg.svdvals(mean_product(updates, adapter))
        lost[adapter] = float((s[3:].square().sum() / s.square().sum()).sqrt())
        assert details["layers"][adapter]["product_error"] == pytest.approx(lost[adapter], rel=1e-3)
    assert numbers[TRUNCATION] == pytest.approx(max(lost.values()), rel=1e-3)
    assert numbers["product_error"] <= numbers["averaging_error"]


@pytest.mark.parametrize("rule", [MeanWithResidual(), Stacking()])
def test_an_exact_rule_has_no_error_whatever_the_meter_says(make_updates: Make, rule: object) -> None:
    updates = make_updates(s1=5, s2=1, s3=2)
    numbers, _ = round_numbers(rule, updates, rule(updates, {}, 0)[0])  # type: ignore[arg-type, operator]
    assert numbers["product_error"] < 1e-6
    assert numbers["averaging_error"] > 0.1


def test_sites_that_agree_have_no_heterogeneity_and_no_pairs_no_numbers() -> None:
    values = {"x.A": torch.randn(2, 5, generator=torch.Generator().manual_seed(0)), "x.B": torch.ones(4, 2)}
    same = {site: Update(values=values, received=values) for site in ("s1", "s2")}
    numbers, _ = round_numbers(WeightedMean(), same, WeightedMean()(same, {}, 0)[0])
    assert numbers["averaging_error"] < 1e-6
    zero = {s: Update(values={**values, "x.B": torch.zeros(4, 2)}, received=values) for s in ("s1", "s2")}
    assert round_numbers(WeightedMean(), zero, WeightedMean()(zero, {}, 0)[0])[0]["averaging_error"] == 0.0
    alone = {s: Update(values={"x.B": values["x.B"]}, received={}) for s in ("s1", "s2")}
    assert round_numbers(WeightedMean(), alone, WeightedMean()(alone, {}, 0)[0]) == ({}, {})
