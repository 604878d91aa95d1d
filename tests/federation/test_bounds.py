"""What the server takes in numbers: norms by themselves and beside each other, shares of the weight, what it sends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.bounds import Bounds, OutOfBounds
from sitelora.federation.coordinator import Coordinator, FederationError
from sitelora.federation.departures import require_sendable
from sitelora.federation.job import Job
from sitelora.federation.plan import FederationPlan
from sitelora.method import Method
from sitelora.server.aggregation import MEDIAN, Aggregation
from sitelora.server.mean import WeightedMean
from sitelora.server.residual import MeanWithResidual
from sitelora.server.types import ANY_SITE, Message, Messages, ServerRule, State
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.wire import PacketError
from sitelora.tasks.segmentation import TASK
from sitelora.value_kinds import SettingsError

SITES = ("site-1", "site-2", "site-3", "site-4")
BEGUN: dict[str, Any] = {
    "site": "s",
    "hospital": "h",
    "labels": {"0": "background", "1": "prostate"},
    "version": "1.0",
    **dict.fromkeys(("bundle_sha256", "base_sha256", "initial_sha256"), "a" * 64),
    "image_size": 32,
    "base": "x",
    **dict.fromkeys(("local_count", "local_values", "frozen_count", "model_values"), 0),
    "seed": 0,
    "hardware": {},
    "versions": {},
}
METHOD = Method(name="m", paper="none", adapters=(), share=ShareRule(shared=("**",)), server=WeightedMean())


def packet(value: float) -> dict[str, Tensor]:
    return {"w": torch.full((4,), value, dtype=torch.bfloat16)}


def make(home: Path, method: Method = METHOD, cases: tuple[int, ...] = (4, 4, 4, 4), **plan: Any) -> Coordinator:
    settings = {"federation": "f", "uid": "u", "bundle": "b", "dataset": "d", "sites": SITES, "rounds": 3, "home": home}
    coordinator = Coordinator(FederationPlan(**{**settings, **plan}), method, TASK)
    counts = [{"training": count, "validation": 1, "test": 2} for count in cases]
    coordinator.begin({s: (packet(1.0), {**BEGUN, "site": s, "cases": c}) for s, c in zip(SITES, counts, strict=True)})
    return coordinator


def sent(coordinator: Coordinator, *values: float, cases: tuple[int, ...] = (4, 4, 4, 4)) -> None:
    for site, value, count in zip(SITES, values, cases, strict=True):
        said = {"cases": count, "metrics": {}, "state_hmac": "e" * 64, "seconds": 1.0}
        coordinator.receive(site, packet(value), said)


def got(coordinator: Coordinator) -> float:
    return float(coordinator.message_for("site-1")["w"][0])


def test_an_update_that_is_too_long_is_rejected_when_it_comes(tmp_path: Path) -> None:
    coordinator = make(tmp_path, bounds=Bounds(largest_norm=10.0, largest_ratio=None))
    sent(coordinator, 1.0, 1.0, 1.0, -6.0)
    assert coordinator.record.reason(0, "site-4") == (
        "site-4: its update has the norm 12, bounds.largest_norm is 10: a learning rate that is too high does this, or "
        "a site that is not honest"
    )
    assert coordinator.close_round(0.0) == {}
    assert got(coordinator) == 2.0


def test_an_update_that_does_not_fit_the_others_is_rejected_at_the_end_of_the_round(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    sent(coordinator, 1.0, 1.0, -10.0, 0.0)
    late = coordinator.close_round(0.0)
    assert late == {
        "site-3": "site-3: its update has 10 times the norm of the round's median, 2; bounds.largest_ratio is 5",
        "site-4": "site-4: its update has 0 times the norm of the round's median, 2; bounds.smallest_ratio is 0.001",
    }
    assert got(coordinator) == 2.0
    result = coordinator.finish({}, completed=True)
    assert [entry.status for entry in result.rounds[0].sites.values()] == ["ok", "ok", "rejected", "rejected"]
    assert result.rounds[0].details.further["norms"] == {"site-1": 2.0, "site-2": 2.0}
    assert all(any(reason in text for text in result.warnings) for reason in late.values())


def test_too_few_that_fit_end_the_round_with_the_reason(tmp_path: Path) -> None:
    coordinator = make(tmp_path, min_sites=4)
    sent(coordinator, 1.0, 1.0, 1.0, -10.0)
    with pytest.raises(FederationError, match=r"3 usable updates, min_sites is 4: site-4 rejected: .*largest_ratio"):
        coordinator.close_round(0.0)


def test_of_two_updates_none_is_the_odd_one() -> None:
    assert Bounds().outliers({"a": {"": 1.0}, "b": {"": 900.0}}) == {}
    assert Bounds().outliers({"a": {"": 0.0}, "b": {"": 0.0}, "c": {"": 900.0}}) == {}
    only = Bounds().outliers({s: {"": 1.0, "control": c} for s, c in (("a", 1.0), ("b", 1.0), ("c", 70.0))})
    assert list(only) == ["c"]
    assert "the companion control" in only["c"]
    off = Bounds(largest_ratio=None, smallest_ratio=None, largest_norm=None)
    assert off.outliers({"a": {"": 1.0}, "b": {"": 1.0}, "c": {"": 1e30}}) == {}
    off.require_norm("a", {"": 1e30})
    with pytest.raises(OutOfBounds, match="a: its update has the norm nan"):
        Bounds().require_norm("a", {"": float("nan")})


@pytest.mark.parametrize(
    ("cases", "share", "counted"),
    [
        ((4, 4, 4), 0.6, (4, 4, 4)),
        ((322, 185, 74), 0.6, (322, 185, 74)),  # the hospitals of IXI
        ((10**9, 4, 4), 0.5, (8, 4, 4)),
        ((10**9, 10**9, 4, 4, 4), 0.4, (24, 24, 4, 4, 4)),
        ((10**9, 7, 4), 0.3, (1, 1, 1)),
        ((10**9, 4), 0.5, (10**9, 4)),
        ((10**9, 4, 4), None, (10**9, 4, 4)),
    ],
)
def test_no_site_has_more_of_the_weight_than_its_share(
    cases: tuple[int, ...], share: float | None, counted: tuple[int, ...]
) -> None:
    said = {f"site-{number}": count for number, count in enumerate(cases)}
    assert tuple(Bounds(largest_share=share).counted(said).values()) == counted


def test_a_site_that_claims_all_cases_has_its_weight_cut_and_the_record_says_so(tmp_path: Path) -> None:
    claims = (10**9, 4, 4, 4)
    coordinator = make(tmp_path, cases=claims)
    for _ in range(2):
        size = 1.0 + coordinator.next_round
        sent(coordinator, 2 * size, size, size, size, cases=claims)
        coordinator.close_round(0.0)
    told = [text for text in coordinator.finish({}, completed=True).warnings if "count" in text]
    assert told == [
        "site-1: of its 1000000000 cases 18 count: bounds.largest_share is 0.6, so that no site has more of the weight"
    ]


class Broken(WeightedMean):
    """A server rule that makes one value that is none."""

    def __call__(self, updates: Any, state: State, round_number: int) -> tuple[Messages, State]:
        messages, state = super().__call__(updates, state, round_number)
        messages[ANY_SITE].values["w"][0] = float("inf")  # type: ignore[index]
        return messages, state


def test_a_rule_that_makes_broken_tensors_ends_the_run_before_they_are_written(tmp_path: Path) -> None:
    coordinator = make(tmp_path, replace(METHOD, server=Broken()))
    sent(coordinator, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(
        FederationError, match=r"the server rule of m made what no site would take.*w: 1 values are NaN"
    ):
        coordinator.close_round(0.0)
    assert coordinator.next_round == 0
    assert got(coordinator) == 1.0


PAIR = {"x.A": torch.ones(2, 3), "x.B": torch.ones(4, 2)}
DELTA = (torch.ones(4, 5), torch.ones(5, 3))


@pytest.mark.parametrize(
    ("messages", "rule", "found"),
    [
        ({}, WeightedMean(), "no message for a site that was away"),
        ({ANY_SITE: Message(values={"y": torch.ones(1)})}, WeightedMean(), "y: unexpected tensor"),
        ({ANY_SITE: Message(values={"x.A": torch.ones(3, 3)})}, WeightedMean(), r"x.A: shape \(3, 3\)"),
        ({ANY_SITE: Message(values={"x.A": torch.ones(2, 3).double()})}, WeightedMean(), "x.A: dtype"),
        ({ANY_SITE: Message(values={"x.A": torch.full((2, 3), 3.4e38)})}, WeightedMean(), "x.A: values are beyond"),
        ({ANY_SITE: Message(values={}, companions={"c/x.A": torch.ones(2, 3)})}, WeightedMean(), "@c/x.A: unexpected"),
        ({ANY_SITE: Message(values=PAIR, base_delta={"x": DELTA})}, WeightedMean(), "this server rule has none"),
        ({ANY_SITE: Message(values=PAIR, base_delta={"z": DELTA})}, MeanWithResidual(), "a base delta for z"),
        ({ANY_SITE: Message(values=PAIR, base_delta={"x": DELTA[::-1]})}, MeanWithResidual(), "x.B: shape"),
        ({ANY_SITE: Message(values=PAIR), "s": Message(values={"q": PAIR["x.A"]})}, WeightedMean(), "message for s"),
    ],
)
def test_what_no_site_would_take_is_not_sent(messages: Messages, rule: ServerRule, found: str) -> None:
    with pytest.raises(PacketError, match=found):
        require_sendable(messages, Message(values=PAIR), companions=(), rule=rule, wire=torch.bfloat16)
    good = {ANY_SITE: Message(values=PAIR, base_delta={"x": DELTA})}
    require_sendable(good, Message(values=PAIR), companions=(), rule=MeanWithResidual(), wire=torch.bfloat16)


def test_the_median_of_a_federation(tmp_path: Path) -> None:
    coordinator = make(tmp_path, aggregation=Aggregation(rule=MEDIAN))
    sent(coordinator, 1.0, 1.5, 2.0, -4.0)
    assert coordinator.close_round(0.0) == {}
    assert got(coordinator) == 1.0 + 1.25


def job(**said: Any) -> Job:
    plain = {"format": 1, "federation": "f", "bundle": "iat_segmentation", "dataset": "d", "sites": ["a"], "rounds": 1}
    return Job.from_json({**plain, **said})


def test_a_job_says_both_and_leaves_out_what_nobody_chose() -> None:
    assert "bounds" not in job().to_json()
    assert "aggregation" not in job().to_json()
    chosen = job(aggregation={"rule": "trimmed_mean", "trim_share": 0.3}, bounds={"largest_norm": None})
    assert chosen.aggregation == Aggregation(rule="trimmed_mean", trim_share=0.3)
    assert chosen.bounds == Bounds(largest_norm=None)
    assert Job.from_json(chosen.to_json()) == chosen


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"bounds": {"largest_norm": 0}}, "bounds, largest_norm is 0, expected number, above 0"),
        ({"bounds": {"largest_ratio": True}}, "bounds, largest_ratio is True"),
        ({"bounds": {"largest": 1}}, "bounds: nothing is called largest.*there are"),
        ({"bounds": [1]}, r"bounds is \[1\], expected a JSON object"),
        ({"aggregation": {"rule": "median"}}, "aggregation, rule is 'median', expected one of"),
        ({"aggregation": "mean"}, "aggregation is 'mean', expected a JSON object"),
    ],
)
def test_a_job_whose_bounds_cannot_be_is_refused(said: dict[str, Any], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        job(**said)


def test_a_job_asks_no_method_for_a_centre_that_it_has_not() -> None:
    with pytest.raises(SettingsError, match="aggregation: fedsca has no coordinate_median: its rule gives every site"):
        replace(job(aggregation={"rule": "coordinate_median"}), bundle="fedsca_segmentation").run_settings()
