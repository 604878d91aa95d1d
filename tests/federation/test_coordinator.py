"""The server's side of a round: what is rejected, what the rule sees, what a site gets, what survives a crash."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.federation.coordinator import Coordinator, FederationError
from sitelora.federation.packets import unpack_evaluation
from sitelora.federation.plan import FederationPlan
from sitelora.method import LocalProgram, Method, Pass
from sitelora.run_result import ModelScore, RunResult
from sitelora.server.mean import WeightedMean
from sitelora.server.residual import MeanWithResidual
from sitelora.server.similarity import SimilarityGuided
from sitelora.server.types import ANY_SITE, Messages, State, Update
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.wire import packet_bytes, packet_sha256
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
    "site": "site-1",
    "hospital": "h",
    "cases": {"training": 4, "validation": 1, "test": 2},
    "image_size": 32,
    "base": "sam_tiny (x)",
    **dict.fromkeys(("local_count", "local_values", "frozen_count", "model_values"), 0),
    "hardware": {"cores": 2},
    "versions": {"torch": "2.13"},
}
SHAPES = {"enc.lora.q.A": (2, 6), "enc.lora.q.B": (5, 2), "head.w": (3,)}
METHOD = Method(name="m", paper="none", adapters=(), share=ShareRule(shared=("**",)), server=WeightedMean())
BF16 = torch.bfloat16


def values(seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {name: (scale * torch.randn(shape, generator=g)).to(BF16) for name, shape in sorted(SHAPES.items())}


def report(**changes: Any) -> dict[str, Any]:
    return {**BEGUN, **changes}


def trained(**changes: Any) -> dict[str, Any]:
    return {"cases": 4, "metrics": {"loss": 0.5}, "state_hmac": "e" * 64, "seconds": 1.0, **changes}


def make(
    home: Path,
    method: Method = METHOD,
    *,
    resume: bool = False,
    begin: bool = True,
    cases: Any = (4, 4, 4),
    **plan: Any,
) -> Coordinator:
    settings = {"federation": "f", "uid": "u", "bundle": "b", "dataset": "d", "sites": SITES, "rounds": 3, "home": home}
    coordinator = Coordinator(FederationPlan(**{**settings, **plan}), method, TASK, resume=resume)
    if begin:
        counts = [{"training": number, "validation": 1, "test": 2} for number in cases]
        pairs = zip(SITES, counts, strict=True)
        coordinator.begin({site: (values(0), report(site=site, cases=count)) for site, count in pairs})
    return coordinator


def play(coordinator: Coordinator, *, missing: tuple[str, ...] = ()) -> None:
    """One round in which every site sends a difference of its own."""
    for number, site in enumerate(SITES):
        if site in missing:
            coordinator.note_missing(site, "absent")
        else:
            seed = 100 * coordinator.next_round + number
            assert coordinator.receive(site, values(seed, 0.1), trained())
    coordinator.close_round(1.0)


# updates


def faulty(name: str, value: Tensor | None) -> dict[str, Tensor]:
    packet = {**values(7), name: value}
    return {n: t for n, t in packet.items() if t is not None}


@pytest.mark.parametrize(
    ("packet", "cases", "found"),
    [
        (faulty("neck.w", torch.zeros(1).to(BF16)), 4, "site-2: neck.w: unexpected tensor"),
        (faulty("head.w", None), 4, "site-2: head.w: missing"),
        (faulty("head.w", torch.zeros(4).to(BF16)), 4, "site-2: head.w: shape (4,), expected (3,)"),
        (faulty("head.w", torch.zeros(3)), 4, "site-2: head.w: dtype torch.float32"),
        (faulty("head.w", torch.full((3,), torch.nan).to(BF16)), 4, "site-2: head.w: 3 values are NaN"),
        (faulty("head.w", torch.full((3,), torch.inf).to(BF16)), 4, "site-2: head.w: 3 values are NaN or infinite"),
        (faulty("@control/head.w", torch.zeros(3).to(BF16)), 4, "site-2: @control/head.w: unexpected tensor"),
        (values(7), 0, "site-2: its report: cases: found 0, expected a whole number"),
        (values(7), None, "site-2: its report: cases: found None"),
        (values(7), 2.5, "site-2: its report: cases: found 2.5"),
        (values(7), 10**9, "site-2: reports 1000000000 training cases, said 4 at begin"),
        (faulty("head.w", torch.zeros(3).to(BF16).to_sparse()), 4, "site-2: head.w: found a torch.sparse_coo tensor"),
        (faulty("head.w", torch.empty(3, dtype=BF16, device="meta")), 4, "site-2: head.w: found a tensor on meta"),
        (faulty("head.w", torch.nested.nested_tensor([torch.zeros(3)])), 4, "site-2: head.w: found a"),
    ],
)
def test_a_bad_update_is_rejected_by_name_and_the_round_goes_on(
    tmp_path: Path, packet: dict[str, Tensor], cases: Any, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator, without = make(tmp_path / "a"), make(tmp_path / "b")
    for number, site in enumerate(SITES):
        if site == "site-2":
            assert not coordinator.receive(site, packet, trained(cases=cases))
            continue
        for one in (coordinator, without):
            assert one.receive(site, values(number, 0.1), trained())
    coordinator.close_round(1.0)
    without.close_round(1.0)
    assert packet_sha256(coordinator.message_for("site-1")) == packet_sha256(without.message_for("site-1"))
    result = coordinator.finish({}, completed=True)
    entry = result.rounds[0].sites["site-2"]
    assert (entry.status, entry.bytes_up) == ("rejected", 0)
    assert found in entry.reason
    assert found in result.warnings[0]
    assert found in caplog.text
    play(coordinator)  # and the site may come back


def test_a_stranger_is_rejected(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    assert not coordinator.receive("site-9", values(1), trained())
    assert "not a site of this federation" in coordinator.finish({}, completed=False).warnings[0]


def test_differences_are_added_to_the_servers_own_fp32_copy(tmp_path: Path) -> None:
    """After many rounds the copy has moved by steps that bf16 values alone would have lost."""
    coordinator = make(tmp_path, rounds=30)
    for number in range(30):
        size = (1 + number / 16) * 2.0**-13  # no site ends two rounds at the same bits
        small = {name: torch.full(shape, size).to(BF16) for name, shape in SHAPES.items()}
        for site in SITES:
            assert coordinator.receive(site, small, trained())
        coordinator.close_round(0.0)
    assert coordinator.state is not None
    for name, tensor in coordinator.state.message_for(ANY_SITE).values.items():
        moved = tensor - values(0)[name].float()
        torch.testing.assert_close(moved, torch.full_like(moved, 57.1875 * 2.0**-13), atol=1e-5, rtol=0)


class Spy:
    """A server rule that keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Update], dict[str, Tensor], int]] = []

    def __call__(self, updates: Any, state: State, round_number: int) -> tuple[Messages, State]:
        self.seen.append((dict(updates), dict(state), round_number))
        messages, _ = WeightedMean()(updates, state, round_number)
        companions = {f"control/{n}": torch.full(shape, round_number + 1.0) for n, shape in SHAPES.items()}
        return {ANY_SITE: replace(messages[ANY_SITE], companions=companions)}, {"round": torch.tensor(round_number)}


class WithControl(LocalProgram):
    companions = ("control",)


def test_the_rule_sees_sorted_sites_their_companions_and_its_own_state(tmp_path: Path) -> None:
    spy = Spy()
    coordinator = make(tmp_path, replace(METHOD, server=spy, program=WithControl()), cases=(3, 3, 3))
    for round_number in range(2):
        for site in reversed(SITES):
            packet = {
                **values(1 + 8 * round_number),
                **{f"@control/{name}": tensor for name, tensor in values(2).items()},
            }
            assert coordinator.receive(site, packet, trained(cases=3))
        coordinator.close_round(0.0)
        assert coordinator.message_for("site-1")["@control/head.w"].tolist() == [round_number + 1.0] * 3
    (first, no_state, _), (second, state, number) = spy.seen
    assert list(first) == list(SITES)
    assert no_state == {}
    assert (state["round"].item(), number) == (0, 1)
    update = first["site-2"]
    assert (update.cases, update.metrics) == (3, {"loss": 0.5})
    assert torch.equal(update.companions["control/head.w"], values(2)["head.w"].float())
    assert torch.equal(
        update.values["head.w"] - update.received["head.w"], update.values["head.w"] - values(0)["head.w"]
    )
    assert torch.equal(second["site-1"].received["head.w"], values(0)["head.w"].float() + values(1)["head.w"].float())


def test_only_what_a_round_trains_is_expected(tmp_path: Path) -> None:
    phased = replace(METHOD, cycle=tuple((Pass(trains=(f"**.{factor}",)),) for factor in "BA"))
    coordinator = make(tmp_path, phased)
    only_b = {name: tensor for name, tensor in values(1).items() if name.endswith(".B")}
    assert not coordinator.receive("site-1", values(1), trained())
    assert coordinator.receive("site-1", only_b, trained())
    coordinator.close_round(0.0)
    message = coordinator.message_for("site-1")
    assert message.keys() == SHAPES.keys()
    assert torch.equal(message["enc.lora.q.A"], values(0)["enc.lora.q.A"])
    assert not torch.equal(message["enc.lora.q.B"], values(0)["enc.lora.q.B"])
    assert not coordinator.receive("site-1", only_b, trained())


# what a site gets


def test_an_absent_site_gets_the_current_message(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    for _ in range(2):
        play(coordinator, missing=("site-3",))
    assert packet_sha256(coordinator.message_for("site-3")) == packet_sha256(coordinator.message_for("site-1"))
    rounds = coordinator.finish({}, completed=False).rounds
    assert [entry.sites["site-3"].status for entry in rounds] == ["missing", "missing"]


def test_every_site_its_own_message_and_the_mean_for_who_was_away(tmp_path: Path) -> None:
    coordinator = make(tmp_path, replace(METHOD, server=SimilarityGuided(temperature=0.1)))
    play(coordinator, missing=("site-3",))
    sent = {site: packet_sha256(coordinator.message_for(site)) for site in (*SITES, ANY_SITE)}
    assert sent["site-3"] == sent[ANY_SITE]
    assert len(set(sent.values())) == 3
    own, unseen_site = unpack_evaluation(coordinator.evaluation_packet("site-1"))
    assert (packet_sha256(own), packet_sha256(unseen_site)) == (sent["site-1"], sent[ANY_SITE])


def test_base_deltas_reach_every_site_once_however_long_it_was_away(tmp_path: Path) -> None:
    coordinator = make(tmp_path, replace(METHOD, server=MeanWithResidual()))

    def deltas(site: str) -> set[int]:
        return {int(n.split("/")[1]) for n in coordinator.message_for(site) if n.startswith("@delta/")}

    play(coordinator, missing=("site-3",))
    assert deltas("site-1") == deltas("site-3") == {0}
    down = packet_bytes(coordinator.message_for("site-1"))
    play(coordinator, missing=("site-3",))
    assert deltas("site-1") == {1}
    assert deltas("site-3") == {0, 1}
    play(coordinator)
    assert [deltas(site) for site in SITES] == [{2}] * 3
    assert coordinator.state is not None
    assert list(coordinator.state.deltas) == [2]  # what everyone has is not kept for ever
    entries = coordinator.finish({}, completed=True).rounds
    assert entries[1].sites["site-1"].bytes_down == down
    assert entries[2].sites["site-3"].bytes_down > entries[2].sites["site-1"].bytes_down


# what survives


def test_resumed_after_any_round_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    for server in (WeightedMean(), SimilarityGuided(), MeanWithResidual()):
        method = replace(METHOD, server=server)
        whole = make(tmp_path / type(server).__name__ / "whole", method)
        for _ in range(3):
            play(whole, missing=("site-2",) if whole.next_round == 1 else ())
        expected = whole.finish({}, completed=True).fingerprint
        home = tmp_path / type(server).__name__ / "cut"
        play(make(home, method))
        for round_number in (1, 2):
            again = make(home, method, resume=True)
            assert again.next_round == round_number
            again.receive("site-1", values(5), trained())  # a round that never closes
            again = make(home, method, resume=True)
            play(again, missing=("site-2",) if round_number == 1 else ())
        result = again.finish({}, completed=True)
        assert result.fingerprint == expected
        assert [entry.number for entry in result.rounds] == [0, 1, 2]
        assert result.rounds_done == 3


def test_too_few_updates_stop_the_run_with_reasons_and_it_can_be_resumed(tmp_path: Path) -> None:
    coordinator = make(tmp_path, min_sites=2)
    play(coordinator)
    coordinator.receive("site-1", values(1), trained())
    coordinator.receive("site-2", faulty("head.w", None), trained())
    coordinator.note_missing("site-3", "no answer within 1800 s")
    with pytest.raises(FederationError) as caught:
        coordinator.close_round(1.0)
    for part in (
        "round 2: 1 usable updates, min_sites is 2",
        "site-2 rejected: site-2: head.w: missing",
        "site-3 missing: no answer within 1800 s",
        "resume uid 'u'",
    ):
        assert part in str(caught.value)
    failed = coordinator.finish({}, completed=False, error=str(caught.value))
    assert (failed.completed, failed.rounds_done) == (False, 1)
    resumed = make(tmp_path, min_sites=2, resume=True)
    assert resumed.next_round == 1
    play(resumed)
    whole = make(tmp_path / "whole")
    play(whole)
    play(whole)
    assert resumed.finish({}, completed=True).fingerprint == whole.finish({}, completed=True).fingerprint


def test_a_run_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(FederationError, match="resume it with its uid 'u', or start a run with another uid"):
        make(tmp_path)
    make(tmp_path, uid="v")


def test_result_json_is_the_proof(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    play(coordinator)
    result = coordinator.finish({"site-1": {"personal": ModelScore(score=0.5)}}, completed=True)
    written = RunResult.read(tmp_path / "f" / "u" / "server" / "result.json")
    assert written == result
    assert (written.completed, written.rounds_planned, written.rounds_done) == (True, 3, 1)
    entry = written.rounds[0].sites["site-2"]
    assert entry.bytes_up == entry.bytes_down == 2 * sum(torch.zeros(s).numel() for s in SHAPES.values())
    assert entry.metrics == {"loss": 0.5}
    assert written.evaluation["site-1"]["personal"].score == 0.5


def deep(levels: int) -> Any:
    value: Any = 1.0
    for _ in range(levels):
        value = {"loss": value}
    return value


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (trained(metrics="0.9"), "metrics: found a text of 3 characters"),
        (trained(metrics={"loss": deep(3000)}), "metrics.loss: found dict of 1"),
        (trained(metrics={"loss": object()}), "metrics.loss: found object"),
        (trained(metrics={"loss": float("nan")}), "metrics.loss: found nan"),
        (trained(metrics={"loss": "a" * 1_400_000}), "metrics.loss: found a text of 1400000 characters"),
        (trained(patient="Miller"), "unknown key patient"),
        ({"cases": 4, "metrics": {}}, "seconds is missing"),
        ({}, "cases is missing"),
        (None, "found None, expected an object"),
    ],
)
def test_a_report_that_does_not_fit_rejects_the_site_by_name_and_the_round_goes_on(
    tmp_path: Path, said: Any, found: str
) -> None:
    coordinator = make(tmp_path)
    assert not coordinator.receive("site-1", values(7), said)
    assert f"site-1: its report: {found}" in coordinator.record.reasons(0)
    assert coordinator.receive("site-2", values(7), trained())
    coordinator.close_round(1.0)
    result = coordinator.finish({}, completed=True)
    assert result.rounds[0].sites["site-1"].metrics == {}
    assert len(json.dumps(result.to_json())) < 20_000
    assert "Miller" not in json.dumps(result.to_json())


def test_the_first_accepted_update_of_a_round_stays(tmp_path: Path) -> None:
    coordinator, once = make(tmp_path / "a"), make(tmp_path / "b")
    for one in (coordinator, once):
        assert one.receive("site-1", values(7), trained())
    assert not coordinator.receive("site-1", values(8), trained())
    for one in (coordinator, once):
        one.close_round(1.0)
    assert packet_sha256(coordinator.message_for("site-1")) == packet_sha256(once.message_for("site-1"))
    result = coordinator.finish({}, completed=True)
    assert result.rounds[0].sites["site-1"].status == "ok"
    assert "a second update for this round" in result.warnings[0]


def scores(**changes: Any) -> dict[str, Any]:
    columns = {"columns": ["personal.1.dice"], "patients": [1, 2], "scores": [0.25, 0.75], "not_applicable": {}}
    return {**columns, "seconds": 1.0, **changes}


def test_scores_come_back_as_an_evaluation(tmp_path: Path) -> None:
    evaluation = make(tmp_path).read_scores("site-1", scores(not_applicable={"global": "nothing is shared"}))
    assert evaluation is not None
    assert (evaluation["personal"].score, evaluation["personal"].case_count) == (0.5, 2)
    assert evaluation["personal"].cases[1].metrics == {"prostate": {"dice": 0.75}}
    assert evaluation["global"] == ModelScore(not_applicable="nothing is shared")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (scores(patients=[1], scores=[0.5]), "patients: found 1 cases, said 2 at begin"),
        (scores(scores=[0.5]), "found 1 scores in 1 columns of 2 cases"),
        (scores(scores=[0.5, float("nan")]), r"scores[1]: found nan"),
        (scores(columns=["personal.1." + "a" * 1000]), "columns[0]: found a text of 1011 characters"),
        (scores(columns=["personal.9.dice"]), "found the column personal.9.dice"),
        (scores(evaluation={}), "unknown key evaluation"),
        ({"evaluation": deep(3000)}, "unknown key evaluation"),
    ],
)
def test_scores_that_are_none_are_named_and_the_others_stay(tmp_path: Path, said: Any, found: str) -> None:
    coordinator = make(tmp_path)
    assert coordinator.read_scores("site-1", said) is None
    assert coordinator.read_scores("site-2", scores()) is not None
    (warning,) = coordinator.finish({}, completed=True).warnings
    assert warning.startswith("evaluation: site-1 missing: site-1: its report: ")
    assert found in warning


def test_tensors_of_any_round_before_are_refused_also_after_a_resume(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    for number in range(2):
        for site in SITES:
            assert coordinator.receive(site, values(1 + number), trained())
        coordinator.close_round(0.0)
    assert not coordinator.receive(SITES[0], values(1), trained())
    assert coordinator.receive(SITES[1], values(3), trained()), "noted, and its round is not closed"
    again = make(tmp_path, resume=True)
    for number in (1, 2):
        assert not again.receive(SITES[0], values(number), trained())
    assert again.receive(SITES[1], values(3), trained()), "the same round, sent again"


def test_a_resume_plans_no_fewer_rounds_than_are_written(tmp_path: Path) -> None:
    coordinator = make(tmp_path)
    for _ in range(2):
        play(coordinator)
    with pytest.raises(FederationError, match=r"has 2 rounds written and the job plans 1; plan at least 2"):
        make(tmp_path, resume=True, begin=False, rounds=1)
    assert make(tmp_path, resume=True, rounds=2).next_round == 2
