"""Before the first round: all sites answer and agree, or nothing is trained and the answer says who differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.agreement import MUST_AGREE
from sitelora.federation.coordinator import Coordinator, FederationError, FederationPlan
from sitelora.method import Method
from sitelora.server.mean import WeightedMean
from sitelora.server.types import ANY_SITE
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.wire import packet_sha256

SITES = ("site-1", "site-2", "site-3")


def initial(value: float = 1.0) -> dict[str, Tensor]:
    return {name: torch.full((3,), value, dtype=torch.bfloat16) for name in ("enc.B", "head.w")}


def report(**changes: Any) -> dict[str, Any]:
    return {**dict.fromkeys(MUST_AGREE, "same"), "hospital": "h", "cases": {"training": 4}, **changes}


def answers(**changes: Any) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    return {site: (initial(), report(**changes)) for site in SITES}


def make(home: Path, *, resume: bool = False, shared: str = "**", **plan: Any) -> Coordinator:
    settings = {"federation": "f", "uid": "u", "bundle": "b", "dataset": "d", "sites": SITES, "rounds": 3, "home": home}
    method = Method(name="m", paper="none", adapters=(), share=ShareRule(shared=(shared,)), server=WeightedMean())
    return Coordinator(FederationPlan(**{**settings, **plan}), method, resume=resume)


@pytest.mark.parametrize("key", MUST_AGREE)
def test_sites_that_disagree_are_named_with_what_they_have(tmp_path: Path, key: str) -> None:
    coordinator = make(tmp_path)
    with pytest.raises(FederationError, match="do not agree, nothing was trained") as caught:
        coordinator.begin({**answers(), "site-2": (initial(), report(**{key: "other"}))})
    assert f"{key}: other at site-2; same at site-1, site-3" in str(caught.value)
    assert not coordinator.store.exists()


def test_a_site_that_did_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="no answer to begin from site-1, site-3; nothing was trained"):
        make(tmp_path).begin({"site-2": (initial(), report())})


def test_initial_tensors_that_differ_in_spite_of_equal_hashes_are_caught(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="initial tensors differ"):
        make(tmp_path).begin({**answers(), "site-3": (initial(2.0), report())})


def test_an_initial_tensor_that_is_not_shared_here_is_caught(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"sent head\.w, which the share rule of m does not share"):
        make(tmp_path, shared="enc.**").begin(answers())


def test_the_first_message_is_the_initial_tensors(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    coordinator.begin(answers())
    assert coordinator.next_round == 0
    for site in (*SITES, ANY_SITE):
        assert packet_sha256(coordinator.message_for(site)) == packet_sha256(initial())


def test_begin_comes_first(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="begin comes first"):
        make(tmp_path).message_for("site-1")


@pytest.mark.parametrize(("plan", "found"), [({"rounds": 0}, "rounds is 0"), ({"min_sites": 4}, "expected 1 to 3")])
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, plan: dict[str, int], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        make(tmp_path, **plan)


@pytest.mark.parametrize("key", MUST_AGREE)
def test_a_run_is_not_resumed_with_another_bundle_base_or_version(tmp_path: Path, key: str) -> None:
    make(tmp_path).begin(answers())
    with pytest.raises(FederationError, match=f"{key}: other at .*now.*; same at .*began"):
        make(tmp_path, resume=True).begin(answers(**{key: "other"}))
    make(tmp_path, resume=True).begin(answers())
