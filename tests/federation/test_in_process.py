"""A whole federation in a loop: interrupted anywhere and resumed it is the uninterrupted one, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.federation.bundle_config import load_method, meta_network
from sitelora.federation.coordinator import FederationError
from sitelora.federation.reports import BEGIN
from sitelora.federation.state import SiteStore
from sitelora.networks.sam import SamSegmenter
from sitelora.run_result import RunResult
from sitelora.sharing.schema import SchemaError
from sitelora.sharing.wire import WireFormat

Federate = Callable[..., RunResult]
SITES = ("site-1", "site-2")
ROUNDS = 3


class Killed(BaseException):
    """The end of a process."""


def audit(home: Path, site: str, uid: str = "u") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "tests" / uid / site / "audit.jsonl").open()]


def own_state(home: Path, site: str, uid: str = "u") -> str:
    """The plain hash of a site's last private state, from its own manifest: none leaves the site."""
    stored = SiteStore(home / "tests" / uid / site).latest()
    assert stored is not None
    return stored.manifest["state_sha256"]


def essence(home: Path, result: RunResult) -> dict[str, Any]:
    """What must be equal bit for bit."""
    return {
        "fingerprint": result.fingerprint,
        "states": {s: own_state(home, s) for s in SITES},
        "losses": [e.metrics["loss"] for r in result.rounds for _, e in sorted(r.sites.items())],
        "rounds": [r.number for r in result.rounds],
    }


@pytest.fixture(scope="module")
def whole(federate: Federate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("whole")
    return {"home": home, "result": federate(home, rounds=ROUNDS, evaluate=True)}


def test_all_rounds_ran_and_the_result_is_on_disk(whole: dict[str, Any]) -> None:
    result = whole["result"]
    assert (result.completed, result.rounds_done, result.warnings) == (True, ROUNDS, ())
    file = whole["home"] / "tests" / "u" / "server" / "result.json"
    assert RunResult.read(file) == result
    assert json.dumps(RunResult.read(file).to_json(), indent=1) + "\n" == file.read_text()
    assert all(sorted(r.sites) == list(SITES) for r in result.rounds)


@pytest.mark.parametrize(
    ("place", "at"), [("between two sites", 0), ("before a round", 1), ("between two sites", ROUNDS - 1)]
)
def test_killed_and_resumed_it_ends_with_the_same_bits(
    whole: dict[str, Any], federate: Federate, tmp_path: Path, at: int, place: str
) -> None:
    last = {"before a round": "site-1", "between two sites": "site-2"}[place]

    def attends(site: str, round_number: int) -> bool:
        if (site, round_number) == (last, at):
            raise Killed
        return True

    with pytest.raises(Killed):
        federate(tmp_path, rounds=ROUNDS, attends=attends)
    result = federate(tmp_path, rounds=ROUNDS, resume=True)
    assert essence(tmp_path, result) == essence(whole["home"], whole["result"])
    resent = [line for line in audit(tmp_path, "site-1") if line["round"] == at]
    once = [line for line in audit(whole["home"], "site-1") if line["round"] == at]
    times = 2 if place == "between two sites" else 1
    assert [line["sha256"] for line in resent] == [
        line["sha256"] for line in once
    ] * times  # it left twice, and says so


def test_more_rounds_later_are_the_same_as_all_at_once(
    whole: dict[str, Any], federate: Federate, tmp_path: Path
) -> None:
    for rounds in (1, 2):
        federate(tmp_path, rounds=rounds, resume=rounds > 1)
    assert essence(tmp_path, federate(tmp_path, rounds=ROUNDS, resume=True)) == essence(whole["home"], whole["result"])
    again = federate(tmp_path, rounds=ROUNDS, resume=True)  # nothing is left to do
    assert essence(tmp_path, again) == essence(whole["home"], whole["result"])


@pytest.mark.parametrize("up", ["int8", "int4"])
def test_in_whole_numbers_it_learns_alike_and_killed_and_resumed_it_ends_with_the_same_bits(
    whole: dict[str, Any], federate: Federate, tmp_path: Path, up: str
) -> None:
    wire = WireFormat(up=up, down="int8")
    once = federate(tmp_path / "once", rounds=ROUNDS, wire=wire, evaluate=True)
    assert (once.completed, once.warnings) == (True, ())

    def attends(site: str, round_number: int) -> bool:
        if (site, round_number) == ("site-2", 1):
            raise Killed
        return True

    with pytest.raises(Killed):
        federate(tmp_path / "again", rounds=ROUNDS, wire=wire, attends=attends)
    again = federate(tmp_path / "again", rounds=ROUNDS, wire=wire, resume=True)
    assert essence(tmp_path / "again", again) == essence(tmp_path / "once", once)
    losses = [essence(home, run)["losses"] for home, run in ((tmp_path / "once", once), tuple(whole.values()))]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    plain, small = (run.rounds[1].sites["site-1"].bytes_up for run in (whole["result"], once))
    assert plain > (1.8 if up == "int8" else 3.0) * small


def test_a_run_is_not_resumed_over_another_wire(federate: Federate, tmp_path: Path) -> None:
    """A site that has done the round would send other bits of it, and the record would tell one wire of two."""

    def attends(site: str, round_number: int) -> bool:
        if (site, round_number) == ("site-2", 1):
            raise Killed
        return True

    with pytest.raises(Killed):
        federate(tmp_path, rounds=2, wire=WireFormat(up="int8", down="int8"), attends=attends)
    before = len(audit(tmp_path, "site-1"))
    for other in (WireFormat(), WireFormat(up="int8", down="int8", clip_norm=1.0)):
        with pytest.raises(FederationError, match=r"cannot be resumed like this[^>]*wire has another value now"):
            federate(tmp_path, rounds=2, wire=other, resume=True)
    begun = [line for line in audit(tmp_path, "site-1")[before:] if line["round"] != -1]
    assert begun == []
    assert federate(tmp_path, rounds=2, wire=WireFormat(up="int8", down="int8"), resume=True).completed


def test_another_uid_is_another_run_with_the_same_bits_and_another_seed_is_not(
    whole: dict[str, Any], federate: Federate, tmp_path: Path
) -> None:
    def first_losses(result: RunResult) -> list[float]:
        return [entry.metrics["loss"] for _, entry in sorted(result.rounds[0].sites.items())]

    expected = first_losses(whole["result"])
    assert first_losses(federate(tmp_path, rounds=1, uid="a")) == expected
    assert first_losses(federate(tmp_path, rounds=1, uid="b")) == expected
    assert not set(first_losses(federate(tmp_path, rounds=1, uid="c", overrides={"seed": 7}))) & set(expected)


def test_the_audit_log_is_what_the_server_counted_and_the_shared_values_in_bf16(whole: dict[str, Any]) -> None:
    result = whole["result"]
    shared = sum(entry.bytes for entry in result.egress.shared)
    for site in SITES:
        lines = audit(whole["home"], site)
        for entry in result.rounds:
            logged = sum(line["bytes"] for line in lines if line["round"] == entry.number)
            assert logged == entry.sites[site].bytes_up == entry.sites[site].bytes_down == shared
        begin = sum(line["bytes"] for line in lines if line["round"] == -1)
        assert begin == result.sites[site].begin_bytes_up == shared
        assert {(line["site"], line["federation"], line["uid"]) for line in lines} == {(site, "tests", "u")}
        assert {line["dtype"] for line in lines} == {"bfloat16"}


def test_no_local_or_frozen_tensor_is_in_any_audit_log(whole: dict[str, Any], federate: Federate) -> None:
    overrides = {"image_size": 32, "base": None, "method#rank": 2}
    partition = load_method("iat_segmentation", overrides).adapt(meta_network("iat_segmentation", overrides), seed=0)
    assert len(partition.local) == 26
    for site in SITES:
        names = {line["name"] for line in audit(whole["home"], site)}
        assert names == set(partition.shared)
        assert not any(n.startswith("image_encoder") and n.endswith(".A") for n in names)
        assert not any(n.startswith("mask_decoder") and n.endswith(".B") for n in names)


def test_an_absent_site_is_named_and_takes_part_again(federate: Federate, tmp_path: Path) -> None:
    result = federate(tmp_path, rounds=3, attends=lambda site, number: (site, number) != ("site-2", 1))
    assert [r.sites["site-2"].status for r in result.rounds] == ["ok", "missing", "ok"]
    assert result.warnings == ("round 2: site-2 missing: absent",)
    generations = sorted(path.name for path in (tmp_path / "tests" / "u" / "site-2").glob("round_*"))
    assert generations == ["round_000", "round_002"]


def test_too_few_sites_end_the_run_and_it_goes_on_when_they_are_back(
    whole: dict[str, Any], federate: Federate, tmp_path: Path
) -> None:
    away = {"site-2": 1}
    with pytest.raises(FederationError, match=r"round 2: 1 usable updates, min_sites is 2: site-2 missing: absent"):
        federate(tmp_path, rounds=ROUNDS, min_sites=2, attends=lambda site, number: away.get(site) != number)
    result = federate(tmp_path, rounds=ROUNDS, min_sites=2, resume=True)
    assert essence(tmp_path, result) == essence(whole["home"], whole["result"])


def test_a_run_that_exists_is_neither_overwritten_nor_taken_up_unasked(federate: Federate, tmp_path: Path) -> None:
    federate(tmp_path, rounds=1)
    with pytest.raises(FederationError, match="resume it with its uid 'u'"):
        federate(tmp_path, rounds=1)
    with pytest.raises(FederationError, match=r"cannot be resumed like this[^>]*settings.learning_rate"):
        federate(tmp_path, rounds=2, resume=True, overrides={"learning_rate": 0.5})


def test_noise_is_repeated_when_a_run_is_resumed(federate: Federate, tmp_path: Path) -> None:
    wire = WireFormat(clip_norm=0.1, noise_std=0.01)

    def attends(site: str, round_number: int) -> bool:
        if (site, round_number) == ("site-2", 1):
            raise Killed
        return True

    with pytest.raises(Killed):
        federate(tmp_path, rounds=2, wire=wire, attends=attends)
    federate(tmp_path, rounds=2, wire=wire, resume=True)
    lines = [line for line in audit(tmp_path, "site-1") if line["round"] == 1]
    half = len(lines) // 2
    assert half > 0
    assert [line["sha256"] for line in lines[:half]] == [line["sha256"] for line in lines[half:]]


def test_the_personal_checkpoint_is_a_plain_sam_with_that_sites_scores(whole: dict[str, Any], phantom: Path) -> None:
    evaluation = whole["result"].evaluation
    assert set(evaluation) == set(SITES)
    for site in SITES:
        assert evaluation[site]["global"].not_applicable
        assert all(0 <= evaluation[site][kind].score <= 1 for kind in ("base", "personal", "unseen"))
        path = whole["home"] / "tests" / "u" / site / "models" / "personal.pt"
        state = torch.load(path, weights_only=True)["model"]
        plain = SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True)
        plain.load_state_dict(state)  # strictly: the base's own names and shapes, all of them
        assert all(tensor.dtype == torch.float32 for tensor in state.values() if tensor.is_floating_point())


def test_the_record_says_what_a_site_set_for_itself_and_no_path(federate: Federate, tmp_path: Path) -> None:
    result = federate(tmp_path, rounds=1, site_values={"batch_size": 1, "base": None})
    for site in SITES:
        assert result.sites[site].own_settings == {"batch_size": 1}
        assert result.sites[site].hardware == result.hardware
    own = BEGIN.optional["own_settings"]
    for strange in ({"base": "x"}, {"device": "../patient"}, {"batch_size": [1]}):
        with pytest.raises(SchemaError):
            own.read(strange)
