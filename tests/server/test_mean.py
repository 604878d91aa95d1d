"""The weighted mean: by cases, in float64, whatever order the sites come in."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sitelora.server.mean import WeightedMean, mean_of_values, weighted_mean
from sitelora.server.types import ANY_SITE, ServerRule, Update, site_weights


def test_it_is_the_case_weighted_mean(make_updates: Callable[..., dict[str, Update]]) -> None:
    updates = make_updates(s1=1, s2=3, s3=6)
    messages, state = WeightedMean()(updates, {}, 0)
    assert list(messages) == [ANY_SITE]
    assert state == {}
    assert sorted(messages[ANY_SITE].values) == sorted(updates["s1"].values)
    for name, value in messages[ANY_SITE].values.items():
        expected = sum(p * updates[s].values[name].double() for s, p in (("s1", 0.1), ("s2", 0.3), ("s3", 0.6)))
        assert value.dtype == torch.float32
        assert torch.equal(value, expected.float())


def test_the_order_of_sites_does_not_change_a_bit(make_updates: Callable[..., dict[str, Update]]) -> None:
    updates = make_updates(s1=2, s2=3, s3=7, s4=11)
    forward = WeightedMean()(updates, {}, 0)[0][ANY_SITE].values
    backward = WeightedMean()(dict(reversed(updates.items())), {}, 0)[0][ANY_SITE].values
    assert all(torch.equal(forward[name], backward[name]) for name in forward)


def test_only_the_ratio_of_cases_matters(make_updates: Callable[..., dict[str, Update]]) -> None:
    few, many = make_updates(s1=1, s2=2, s3=4), make_updates(s1=1000, s2=2000, s3=4000)
    first, second = mean_of_values(few), mean_of_values(many)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert site_weights(many) == {"s1": 1 / 7, "s2": 2 / 7, "s3": 4 / 7}
    assert list(site_weights(make_updates(s3=1, s1=1))) == ["s1", "s3"]


def test_sums_are_formed_in_float64() -> None:
    """In fp32 the small values vanish beside the large one before it is taken away again."""
    values = {"a": torch.tensor([1e8]), "b": torch.tensor([1.0]), "c": torch.tensor([-1e8])}
    assert weighted_mean(values, dict.fromkeys(values, 1.0)).item() == 1.0
    total = torch.zeros(1)
    for value in values.values():
        total = total + value
    assert total.item() == 0.0


def test_equal_sites_give_back_their_values_and_one_site_its_own(
    make_updates: Callable[..., dict[str, Update]],
) -> None:
    one = make_updates(s1=5)
    twins = {"s1": one["s1"], "s2": replace(one["s1"], cases=2)}
    for updates in (one, twins):
        found = mean_of_values(updates)
        assert all(torch.allclose(found[name], one["s1"].values[name], rtol=1e-7, atol=0) for name in found)


def test_only_what_was_asked_for(make_updates: Callable[..., dict[str, Update]]) -> None:
    assert list(mean_of_values(make_updates(s1=1, s2=1), names=["head.w"])) == ["head.w"]


@pytest.mark.parametrize("path", ["mean.WeightedMean", "product.ProductMeanSVD", "residual.MeanWithResidual"])
def test_rules_are_server_rules_that_touch_no_input(path: str, make_updates: Callable[..., dict[str, Update]]) -> None:
    module, _, name = path.partition(".")
    rule = getattr(importlib.import_module(f"sitelora.server.{module}"), name)()
    assert isinstance(rule, ServerRule)
    updates = make_updates(s1=1, s2=2)
    before = {s: {n: t.clone() for n, t in u.values.items()} for s, u in updates.items()}
    first, _ = rule(updates, {}, 0)
    again, _ = rule(dict(reversed(updates.items())), {}, 0)
    assert all(torch.equal(t, before[s][n]) for s, u in updates.items() for n, t in u.values.items())
    values, repeated = first[ANY_SITE].values, again[ANY_SITE].values
    assert all(torch.equal(values[name], repeated[name]) for name in values)
    assert {name: t.shape for name, t in values.items()} == {n: t.shape for n, t in updates["s1"].values.items()}
    assert all(t.dtype == torch.float32 for t in values.values())
