"""Before the first round: all sites answer and agree, or nothing is trained and the answer says who differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.agreement import MUST_AGREE, disagreements, remedies
from sitelora.federation.coordinator import Coordinator, FederationError
from sitelora.federation.plan import FederationPlan
from sitelora.federation.reports import BEGIN
from sitelora.method import Method
from sitelora.run_result import SharedTensor
from sitelora.server.mean import WeightedMean
from sitelora.server.types import ANY_SITE
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.schema import SchemaError
from sitelora.sharing.wire import packet_sha256
from sitelora.tasks.segmentation import TASK

SITES = ("site-1", "site-2", "site-3")
SAME: dict[str, Any] = {
    "version": "1.0",
    "bundle_sha256": "a" * 64,
    "base_sha256": "b" * 64,
    "initial_sha256": "c" * 64,
    "labels": {"0": "background", "1": "prostate"},
    "seed": 0,
}
BEGUN: dict[str, Any] = {
    **SAME,
    "site": "site-2",
    "hospital": "h",
    "cases": {"training": 4, "validation": 1, "test": 2},
    "image_size": 32,
    "base": "sam_tiny (x)",
    **dict.fromkeys(("local_count", "local_values", "frozen_count", "model_values"), 0),
    "hardware": {"cores": 2},
    "versions": {"torch": "2.13"},
}
OTHER = {
    "version": "2.0",
    "labels": {"1": "other"},
    "seed": 1,
    **dict.fromkeys(("bundle_sha256", "base_sha256", "initial_sha256"), "d" * 64),
}


def initial(value: float = 1.0) -> dict[str, Tensor]:
    return {name: torch.full((3,), value, dtype=torch.bfloat16) for name in ("enc.B", "head.w")}


def report(**changes: Any) -> dict[str, Any]:
    return {**BEGUN, **changes}


def answers(**changes: Any) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    return {site: (initial(), report(**{"site": site, **changes})) for site in SITES}


def make(home: Path, *, resume: bool = False, shared: str = "**", **plan: Any) -> Coordinator:
    settings = {"federation": "f", "uid": "u", "bundle": "b", "dataset": "d", "sites": SITES, "rounds": 3, "home": home}
    settings["min_sites"] = 3  # so that nobody may be left out
    method = Method(name="m", paper="none", adapters=(), share=ShareRule(shared=(shared,)), server=WeightedMean())
    return Coordinator(FederationPlan(**{**settings, **plan}), method, TASK, resume=resume)


@pytest.mark.parametrize("key", MUST_AGREE)
def test_sites_that_disagree_are_named_with_what_they_have(tmp_path: Path, key: str) -> None:
    coordinator = make(tmp_path)
    with pytest.raises(FederationError, match="do not agree, nothing was trained") as caught:
        coordinator.begin({**answers(), "site-2": (initial(), report(**{key: OTHER[key]}))})
    line = next(line for line in str(caught.value).splitlines() if f" {key}: " in line)
    assert f"{str(OTHER[key])[:60]} at site-2" in line
    assert f"{str(SAME[key])[:60]} at site-1, site-3" in line
    assert not coordinator.store.exists()


def test_a_site_that_did_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="nothing was trained: no answer to begin from site-1, site-3"):
        make(tmp_path).begin({"site-2": (initial(), report())})


def test_initial_tensors_that_differ_in_spite_of_equal_hashes_are_caught(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="initial tensors differ"):
        make(tmp_path).begin({**answers(), "site-3": (initial(2.0), report(site="site-3"))})


def test_an_initial_tensor_that_is_not_shared_here_is_caught(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"sent head\.w, which the share rule of m does not share"):
        make(tmp_path, shared="enc.**").begin(answers())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"hardware": {"cores": object()}}, "site-2: its report: hardware.cores: found object"),
        ({"hospital": "x" * 1_400_000}, "site-2: its report: hospital: found a text of 1400000 characters"),
        ({"partition": {}}, "site-2: its report: unknown key partition"),
        ({"cases": {"training": 4, "secret": 1}}, "site-2: its report: cases: found the key secret"),
    ],
)
def test_a_report_that_does_not_fit_its_schema_is_named(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    coordinator = make(tmp_path)
    with pytest.raises(FederationError, match=f"nothing was trained: {found}"):
        coordinator.begin({**answers(), "site-2": (initial(), report(**change))})
    missing = {key: value for key, value in BEGUN.items() if key != "seed"}
    with pytest.raises(FederationError, match="site-2: its report: seed is missing"):
        coordinator.begin({**answers(), "site-2": (initial(), missing)})


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (torch.ones(3), "dtype torch.float32, expected torch.bfloat16"),
        (torch.full((3,), torch.nan).bfloat16(), "3 values are NaN"),
        (torch.ones(3).bfloat16().to_sparse(), "expected a dense one"),
        (torch.empty(3, dtype=torch.bfloat16, device="meta"), "expected one in memory"),
        ([1.0], "found list, expected a tensor"),
    ],
)
def test_initial_tensors_of_another_form_are_named(tmp_path: Path, tensor: Any, found: str) -> None:
    with pytest.raises(FederationError, match=f"nothing was trained: site-2: enc.B: .*{found}"):
        make(tmp_path).begin({**answers(), "site-2": ({**initial(), "enc.B": tensor}, report())})


def test_the_shapes_of_the_shared_tensors_are_those_of_the_packet(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    coordinator.begin(answers())
    shared = coordinator.finish({}, completed=False).egress.shared
    assert shared == tuple(SharedTensor(name=name, shape=(3,), bytes=6) for name in ("enc.B", "head.w"))


def test_the_first_message_is_the_initial_tensors(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    coordinator.begin(answers())
    assert coordinator.next_round == 0
    for site in (*SITES, ANY_SITE):
        assert packet_sha256(coordinator.message_for(site)) == packet_sha256(initial())


def test_begin_comes_first(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="begin comes first"):
        make(tmp_path).message_for("site-1")


ODD: dict[str, tuple[Any, str]] = {
    "silent": (None, "site-2: no answer to begin"),
    "no report": ((initial(), {}), "site-2: its report: site is missing"),
    "another site's": ((initial(), report(site="site-1")), "site-2: its report: site: found 'site-1', expected"),
    "other labels": ((initial(), report(labels={"1": "other"})), "site-2: most sites have another labels"),
    "other values": ((initial(2.0), report()), "site-2: most sites have another initial tensors"),
    "NaN": ((initial(float("nan")), report()), "site-2: enc.B: 3 values are NaN"),
    "other job": (
        (initial(), report(agreed={"rounds": "f" * 16})),
        "site-2: has read another job than the server, they differ in rounds",
    ),
}


@pytest.mark.parametrize("kind", sorted(ODD))
def test_one_odd_answer_is_left_out_by_name_where_enough_sites_remain(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, reason = ODD[kind]
    good = {"agreed": {"rounds": "a" * 16}} if kind == "other job" else {}
    told = {**answers(**good), "site-2": answer}
    coordinator = make(tmp_path, min_sites=2, agreed=good.get("agreed", {}))
    left_out = coordinator.begin({site: one for site, one in told.items() if one is not None})
    assert list(left_out) == ["site-2"]
    assert left_out["site-2"].startswith(reason)
    assert coordinator.sites == ("site-1", "site-3")
    assert reason in caplog.text
    assert reason in coordinator.finish({}, completed=False).warnings[0]
    assert packet_sha256(coordinator.message_for("site-1")) == packet_sha256(initial())
    strict = make(tmp_path / "strict", agreed=good.get("agreed", {}))
    with pytest.raises(FederationError, match="nothing was trained"):
        strict.begin({site: one for site, one in told.items() if one is not None})


def test_of_two_sites_that_disagree_nobody_knows_who_is_right(tmp_path: Path) -> None:
    coordinator = make(tmp_path, sites=SITES[:2], min_sites=1)
    with pytest.raises(FederationError, match="do not agree, nothing was trained"):
        coordinator.begin({"site-1": (initial(), report(site="site-1")), "site-2": (initial(), report(seed=1))})


def test_who_was_left_out_is_there_again_when_the_run_is_resumed(tmp_path: Path) -> None:
    first = make(tmp_path, min_sites=2)
    first.begin({**answers(), "site-2": (initial(), report(seed=1))})
    assert not first.receive("site-2", {}, {})
    assert "took no part in the begin" in first.record.reason(0, "site-2")
    again = make(tmp_path, min_sites=2, resume=True)
    assert again.begin(answers()) == {}
    assert again.sites == SITES


@pytest.mark.parametrize(("plan", "found"), [({"rounds": 0}, "rounds is 0"), ({"min_sites": 4}, "expected 1 to 3")])
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, plan: dict[str, int], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        make(tmp_path, **plan)


@pytest.mark.parametrize("key", MUST_AGREE)
def test_a_run_is_not_resumed_with_another_bundle_base_or_version(tmp_path: Path, key: str) -> None:
    make(tmp_path).begin(answers())
    with pytest.raises(FederationError, match=rf"{key}: .* at all sites"):
        make(tmp_path, resume=True).begin(answers(**{key: OTHER[key]}))
    make(tmp_path, resume=True).begin(answers())


@pytest.mark.parametrize("absent", ["training", "validation", "test"])
def test_a_site_says_all_three_counts_of_its_cases(absent: str) -> None:
    cases = {split: count for split, count in BEGUN["cases"].items() if split != absent}
    with pytest.raises(SchemaError, match=rf"site-2: its report: cases: {absent} is missing"):
        BEGIN.read(report(cases=cases), sender="site-2")


def test_labels_that_are_spelt_alike_but_for_case_and_blanks_agree_and_others_say_what_to_do() -> None:
    one, other = report(), report(labels={"0": "Background", "1": " prostate "})
    assert disagreements({"a": one, "b": other}) == []
    kidney = report(labels={"0": "background", "1": "kidney"})
    assert remedies({"a": one, "b": kidney}).startswith("give the label values the same names")
    assert "install the same SiteLoRA version" in remedies({"a": one, "b": report(version="2.0")})
