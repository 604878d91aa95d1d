"""Means within given groups: all in one is FedAvg, each in its own is local training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sitelora.server.groups import GroupMeans
from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, ServerRule, Update

Make = Callable[..., dict[str, Update]]


def test_a_site_receives_the_mean_of_its_own_group(make_updates: Make) -> None:
    updates = make_updates(s1=1, s2=2, s3=5)
    messages, state = GroupMeans(groups={"s1": 0, "s2": 1, "s3": 0})(updates, {}, 0)
    first = mean_of_values({site: updates[site] for site in ("s1", "s3")})
    for name, value in first.items():
        torch.testing.assert_close(messages["s1"].values[name], value)
        torch.testing.assert_close(messages["s3"].values[name], value)
        torch.testing.assert_close(messages["s2"].values[name], updates["s2"].values[name])
        torch.testing.assert_close(messages[ANY_SITE].values[name], mean_of_values(updates)[name])
    assert not state


@pytest.mark.parametrize("groups", [{"s1": 7, "s2": 7, "s3": 7}, {}])
def test_one_group_is_fedavg_and_none_is_being_alone(make_updates: Make, groups: dict[str, int]) -> None:
    updates = make_updates(s1=1, s2=2, s3=5)
    messages, _ = GroupMeans(groups=groups)(updates, {}, 0)
    averaged = mean_of_values(updates)
    for site, update in updates.items():
        for name, value in (averaged if groups else update.values).items():
            torch.testing.assert_close(messages[site].values[name], value)


def test_it_is_a_rule_without_a_centre() -> None:
    rule = GroupMeans(groups={"s1": 0})
    assert isinstance(rule, ServerRule)
    assert "group" in rule.no_centre
