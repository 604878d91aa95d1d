"""A round at a real site: it starts from the state before it, ends with the same bits however it got there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sitelora.data.site_folder import SiteDataError
from sitelora.federation.build_network import partition_of, trained_parameters
from sitelora.federation.local_round import TrainingError
from sitelora.federation.site import Site
from sitelora.federation.site_settings import Answer, SiteError
from sitelora.method import Model
from sitelora.sharing.wire import PacketError, cast, packet_sha256

MakeSite = Callable[..., Site]
FEDIT = {"method": "fedavg_lora", "method#rank": 2, "method#scale": 1.0}


class Killed(BaseException):
    """The end of a process, as far as Python can tell it."""


def first_message(site: Site) -> dict[str, Tensor]:
    return cast(site.begin().tensors, torch.bfloat16)


def next_message(message: dict[str, Tensor], answer: Answer) -> dict[str, Tensor]:
    """What a server with this one site would send."""
    return cast({n: t.float() + answer.tensors[n].float() for n, t in message.items()}, torch.bfloat16)


def play(make: Callable[[], Site], rounds: int) -> list[Answer]:
    """Rounds one after another, each at a site made anew: a process of its own."""
    message = first_message(make())
    answers = []
    for number in range(rounds):
        answers.append(make().train(number, message))
        message = next_message(message, answers[-1])
    return answers


@pytest.fixture(scope="module")
def whole(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three uninterrupted rounds at one site object, and everything that was seen on the way."""
    home = tmp_path_factory.mktemp("whole")
    site = make_site(home)
    before = {name: tensor.clone() for name, tensor in site.network.state_dict().items()}
    message = first_message(site)
    messages, answers, states = [message], [], []
    for number in range(3):
        answers.append(site.train(number, message))
        states.append(site.store.generation(number).state())  # type: ignore[union-attr]
        message = next_message(message, answers[-1])
        messages.append(message)
    return {"site": site, "home": home, "before": before, "messages": messages, "answers": answers, "states": states}


def fingerprints(answers: list[Answer]) -> list[tuple[str, str]]:
    return [(packet_sha256(answer.tensors), answer.report["state_hmac"]) for answer in answers]


def test_a_site_made_anew_for_every_round_ends_with_the_same_bits(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    assert fingerprints(play(lambda: make_site(tmp_path), 3)) == fingerprints(whole["answers"])


@pytest.mark.parametrize("same_object", [True, False], ids=["same site object", "new site object"])
@pytest.mark.parametrize("death", [Killed, RuntimeError])
def test_killed_inside_a_round_it_does_the_round_again_from_its_start(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path, same_object: bool, death: type[BaseException]
) -> None:
    site = make_site(tmp_path)
    site.train(0, whole["messages"][0])

    def die(step: int, steps: int, loss: float) -> None:
        if step == 1:
            raise death("in the middle")

    with pytest.raises(death):
        site.train(1, whole["messages"][1], progress=die)
    assert site.store.generation(1) is None
    again = site if same_object else make_site(tmp_path)
    answers = [again.train(number, whole["messages"][number]) for number in (0, 1, 2)]
    assert fingerprints(answers) == fingerprints(whole["answers"])
    assert "resent" in answers[0].report
    assert "resent" not in answers[1].report


def test_the_same_message_twice_sends_the_stored_update_and_trains_nothing(whole: dict[str, Any]) -> None:
    site = whole["site"]
    steps: list[int] = []
    before = {name: parameter.clone() for name, parameter in trained_parameters(site.network).items()}
    again = site.train(2, whole["messages"][2], progress=lambda step, total, loss: steps.append(step))
    assert again.report["resent"] is True
    assert steps == []
    assert fingerprints([again]) == fingerprints(whole["answers"][2:])
    assert all(torch.equal(before[n], p) for n, p in trained_parameters(site.network).items())


def test_a_round_is_done_once_and_another_message_for_it_is_refused(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(tmp_path)
    first = site.train(0, whole["messages"][0])
    other = {name: tensor * 1.5 for name, tensor in whole["messages"][1].items()}
    assert fingerprints([site.train(1, other)]) != fingerprints(whole["answers"][1:2])
    for number, message in ((1, whole["messages"][1]), (0, other)):
        with pytest.raises(SiteError, match=f"site site-1: the server asks for round {number} from another message"):
            site.train(number, message)
    shutil.rmtree(site.store.folder / "round_001")  # as the error says
    right = site.train(1, whole["messages"][1])
    assert fingerprints([first, right]) == fingerprints(whole["answers"][:2])


def test_only_planned_rounds_are_answered(whole: dict[str, Any], make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path, rounds=2)
    site.train(0, whole["messages"][0])
    before = sorted(path.name for path in site.store.folder.glob("round_*"))
    for number in (-1, 2, 10**6):
        with pytest.raises(
            SiteError, match=rf"round {number}, the job plans rounds 0 to 1; nothing was done"
        ) as caught:
            site.train(number, whole["messages"][1])
        assert caught.value.code == "turn_refused"
    assert sorted(path.name for path in site.store.folder.glob("round_*")) == before
    later = make_site(tmp_path / "away", rounds=3)
    later.train(0, whole["messages"][0])
    assert later.train(2, whole["messages"][2]).report["cases"] == 2  # it was away in round 1 and takes part again


def test_models_are_scored_once_after_the_last_round_only(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(tmp_path, rounds=2)
    noise = {name: torch.randn_like(tensor) for name, tensor in whole["messages"][0].items()}
    for number in range(2):
        with pytest.raises(SiteError, match=r"an evaluation, which comes after round 1; done last is"):
            site.evaluate(noise)
        assert not (site.store.folder / "models").exists()
        site.train(number, whole["messages"][number])
    first = site.evaluate(whole["messages"][2])
    model = (site.store.folder / "models" / "personal.pt").read_bytes()
    with pytest.raises(SiteError, match="a second evaluation, of another message"):
        make_site(tmp_path, rounds=2).evaluate(noise)
    assert (site.store.folder / "models" / "personal.pt").read_bytes() == model
    again = make_site(tmp_path, rounds=2).evaluate(whole["messages"][2])
    assert (again.tensors, again.report) == ({}, first.report)


def test_frozen_tensors_are_bit_identical_and_trained_ones_moved(whole: dict[str, Any]) -> None:
    site = whole["site"]
    partition, now = partition_of(site.network), site.network.state_dict()
    assert all(torch.equal(now[name], whole["before"][name]) for name in partition.frozen)
    still = [name for name in partition.trained if torch.equal(now[name], whole["before"][name])]
    assert still == []


def test_local_tensors_survive_on_disk_and_only_there(whole: dict[str, Any]) -> None:
    partition = partition_of(whole["site"].network)
    for answer, state in zip(whole["answers"], whole["states"], strict=True):
        assert sorted(state.local) == list(partition.local)
        assert sorted(answer.tensors) == list(partition.shared)
    parameters = trained_parameters(whole["site"].network)
    first, last = whole["states"][0].local, whole["states"][2].local
    moved = [name for name in partition.local if not torch.equal(first[name], last[name])]
    assert moved == list(partition.local)
    assert parameters.keys() == set(partition.trained)


def test_the_update_is_the_difference_from_what_was_received(whole: dict[str, Any]) -> None:
    answer, message = whole["answers"][0], whole["messages"][0]
    stored = whole["site"].store.generation(2).update()
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    sent = whole["answers"][2].tensors
    assert all(torch.equal(sent[name], tensor.bfloat16()) for name, tensor in stored.items())
    assert 0 < max(float(tensor.abs().max()) for tensor in answer.tensors.values()) < 0.1
    assert answer.tensors.keys() == message.keys()
    assert answer.report["cases"] == 2
    assert answer.report["metrics"]["steps"] == 2


def test_the_optimisers_state_is_kept_by_name_and_matters(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    state = whole["states"][1]
    trained = partition_of(whole["site"].network).trained
    assert {key for key in state.optimizer if key.endswith("/exp_avg")} == {f"/{name}/exp_avg" for name in trained}
    assert all(state.optimizer[f"/{name}/step"] == 4 for name in trained)  # two rounds of two steps
    site = make_site(tmp_path)
    for number in (0, 1):
        site.train(number, whole["messages"][number])
    folder = tmp_path / "tests" / "u" / "site-1" / "round_001"
    stored = site.store.generation(1)
    assert stored is not None
    forgetful = stored.state()
    forgetful.optimizer = {}
    keep = {k: v for k, v in stored.manifest.items() if k in ("message_sha256", "report", "version")}
    keep |= {k: stored.manifest[k] for k in ("bundle_sha256", "settings_sha256", "base_sha256")}
    site.store.write(1, forgetful, stored.update(), keep)
    assert folder.exists()
    assert fingerprints([site.train(2, whole["messages"][2])]) != fingerprints(whole["answers"][2:])


def test_what_the_global_generators_did_before_does_not_matter(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    torch.manual_seed(123)
    torch.rand(77)
    site = make_site(tmp_path)
    torch.rand(5)
    assert fingerprints([site.train(0, whole["messages"][0])]) == fingerprints(whole["answers"][:1])


def test_sites_and_rounds_and_seeds_train_differently(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    message = whole["messages"][0]
    one = whole["answers"][0]
    other_site = make_site(tmp_path, "site-2").train(0, message)
    other_seed = make_site(tmp_path / "seed", overrides={"seed": 1}).train(0, message)
    later = make_site(tmp_path / "later").train(1, message)
    assert len({packet_sha256(answer.tensors) for answer in (one, other_site, other_seed, later)}) == 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_message_with_a_value_that_is_not_finite_is_refused(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path, value: float
) -> None:
    message = dict(whole["messages"][0])
    name = sorted(message)[0]
    message[name] = torch.full_like(message[name], value)
    with pytest.raises(PacketError, match="values are NaN or infinite") as caught:
        make_site(tmp_path).train(0, message)
    assert name in str(caught.value)


def test_training_that_diverges_sends_nothing_and_names_the_site(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(tmp_path)
    site._parser["learning_rate"] = 1e30  # far above what may be set
    with pytest.raises(TrainingError, match=r"site site-1: .*learning_rate"):
        site.train(0, whole["messages"][0])
    assert site.store.latest() is None
    with pytest.raises(TrainingError, match="site site-1"):  # and again: nothing of the first attempt remains
        site.train(0, whole["messages"][0])


def test_a_run_is_not_continued_with_another_bundle(whole: dict[str, Any], make_site: MakeSite, tmp_path: Path) -> None:
    make_site(tmp_path).train(0, whole["messages"][0])
    with pytest.raises(SiteError, match=r"site site-1: .*round_000 was written with settings_sha256 .*start a new one"):
        make_site(tmp_path, overrides={"learning_rate": 0.5}).train(1, whole["messages"][1])


def test_begin_reports_what_must_agree_and_the_seeded_tensors(make_site: MakeSite, tmp_path: Path) -> None:
    first, second = (make_site(tmp_path, name).begin() for name in ("site-1", "site-2"))
    other = make_site(tmp_path / "seed", overrides={"seed": 1}).begin()
    for key in ("version", "bundle_sha256", "base_sha256", "initial_sha256", "seed"):
        assert first.report[key] == second.report[key]
    assert packet_sha256(first.tensors) == packet_sha256(second.tensors)
    assert other.report["initial_sha256"] != first.report["initial_sha256"]
    json.dumps(first.report)
    assert first.report["cases"] == {"training": 2, "validation": 1, "test": 1}


def test_data_of_other_labels_than_the_bundles_is_refused(make_site: MakeSite, tmp_path: Path) -> None:
    with pytest.raises(SiteDataError, match=r"(?s)site site-1: .*'prostate'.*classes=2"):
        make_site(tmp_path, overrides={"classes": 2}).begin()


def test_a_models_scores_are_its_own_whatever_was_scored_since(make_site: MakeSite, tmp_path: Path) -> None:
    site, other = make_site(tmp_path), make_site(tmp_path, "site-2").folder
    initial = site.local_round.initial
    one, two = (Model({name: value + shift for name, value in initial.items()}) for shift in (0.0, 0.3))
    alone = {folder.name: make_site(tmp_path).scores.test(one, folder) for folder in (site.folder, other)}
    for folder in (site.folder, other, site.folder):
        assert site.scores.test(two, folder) != alone[folder.name]
        assert site.scores.test(one, folder) == alone[folder.name]
    site.scores.test(one, site.folder, keep_predictions=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == len(site.folder.cases("test"))


def test_a_method_without_local_tensors_resumes_too(make_site: MakeSite, tmp_path: Path) -> None:
    one = play(lambda: make_site(tmp_path / "a", overrides=FEDIT), 2)
    site = make_site(tmp_path / "b", overrides=FEDIT)
    message = first_message(site)
    answers = []
    for number in range(2):
        answers.append(site.train(number, message))
        message = next_message(message, answers[-1])
    assert fingerprints(one) == fingerprints(answers)
    stored = site.store.generation(1)
    assert stored is not None
    assert stored.state().local == {}


def test_a_loss_that_is_no_number_before_the_first_step_is_blamed_on_what_came(
    whole: dict[str, Any], make_site: MakeSite, tmp_path: Path
) -> None:
    message = {name: torch.full_like(tensor, 3e38) for name, tensor in whole["messages"][0].items()}
    with pytest.raises(TrainingError, match=r"site-1: .* began this round with values up to 3\.0e\+38.*other"):
        make_site(tmp_path).train(0, message)
