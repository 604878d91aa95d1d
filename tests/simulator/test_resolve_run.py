"""Which run a simulation is: judged values, workspaces that are not emptied, runs that go on."""

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sitelora.federation.bundle_config import load_method
from sitelora.federation.job_folder import JobFolder
from sitelora.federation.run_folder import RunFolder
from sitelora.simulator import judge_settings, resolve_run
from sitelora.simulator.resolve_run import SimulationError, choose_run, last_unfinished, stopped_before
from sitelora.simulator.simulate import simulate
from sitelora.value_kinds import SettingsError

Jobs = Callable[..., JobFolder]


@pytest.fixture(autouse=True)
def judged_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are judged by the same function in this process: starting one for each takes seconds."""
    monkeypatch.setattr(resolve_run, "judged_values", lambda **asked: judge_settings._judge(asked))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"device": "cuda:7"}, "found device='cuda:7', expected a device of this machine"),
        ({"prefix_cache": True}, "found prefix_cache true and views 0"),
    ],
)
def test_what_no_site_here_could_train_with_is_refused_before_anything_starts(
    values: dict[str, Any], words: str, job_of: Jobs, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=words):
        simulate(job_of(tmp_path / "jobs").path, home=tmp_path / "home", overrides=values)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("precious", ["thesis.txt", "local"])
def test_a_workspace_with_something_in_it_is_not_emptied(precious: str, job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs")
    workspace = tmp_path / "work"
    (workspace / "data").mkdir(parents=True)
    (workspace / precious).mkdir(exist_ok=True)
    with pytest.raises(SimulationError, match="would empty it"):
        simulate(job.path, workspace=workspace, home=tmp_path / "home")
    assert (workspace / precious).is_dir()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["my home", "a#b", "it's"])
def test_a_home_by_which_nvflare_takes_its_commands_apart_is_refused(name: str, job_of: Jobs, tmp_path: Path) -> None:
    """It waited for a minute for a process that could not be started."""
    job = job_of(tmp_path / "jobs")
    with pytest.raises(SimulationError, match="name one with --workspace"):
        simulate(job.path, home=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_run_is_never_begun_twice_and_nothing_is_resumed_from_nothing(job_of: Jobs, tmp_path: Path) -> None:
    job, home = job_of(tmp_path / "jobs"), tmp_path / "home"
    with pytest.raises(SimulationError, match="no unfinished run"):
        simulate(job.path, home=home, resume=True)
    with pytest.raises(SimulationError, match="no run with uid run-7"):
        simulate(job.path, home=home, resume=True, uid="run-7")
    with pytest.raises(SimulationError, match="at least 1"):
        simulate(job.path, home=home, rounds=0)
    with pytest.raises(ValueError, match="names a folder"):
        simulate(job.path, home=home, uid="../up")
    written = home / "iat_prostate" / "run-7" / "server" / "round_001"
    written.mkdir(parents=True)
    (written / "manifest.json").write_text("{}")
    with pytest.raises(SimulationError, match="resume it"):
        simulate(job.path, home=home, uid="run-7")


def test_the_last_unfinished_run_is_the_one_that_was_worked_on_last(tmp_path: Path) -> None:
    def run(uid: str, minutes_ago: float, completed: bool | None) -> None:
        server = tmp_path / "fed" / uid / "server"
        server.mkdir(parents=True)
        if completed is not None:
            (server / "result.json").write_text(json.dumps({"completed": completed}))
        when = time.time() - 60 * minutes_ago
        for path in (*server.iterdir(), server):
            os.utime(path, (when, when))

    assert last_unfinished(tmp_path, "fed") is None
    run("20261120-a", 30, None)
    run("20261120-b", 20, False)
    run("20261120-c", 10, True)
    assert last_unfinished(tmp_path, "fed") == "20261120-b"
    assert last_unfinished(tmp_path, "other") is None


@pytest.mark.parametrize("text", ["{", "[]", "[" * 200_000, '{"completed": 1}'])
def test_a_damaged_run_keeps_no_other_from_starting(text: str, tmp_path: Path) -> None:
    server = tmp_path / "fed" / "20261120-a" / "server"
    server.mkdir(parents=True)
    (server / "result.json").write_text(text)
    (server.parent / "stopped.json").write_text(text)
    assert stopped_before(tmp_path, "fed", "request") is None
    assert last_unfinished(tmp_path, "fed") == "20261120-a"


def choose(job: Path, home: Path, **changes: Any) -> Any:
    nothing = {"workspace": None, "data": None, "rounds": None, "method": None, "uid": None}
    with ExitStack() as held:
        arguments = {**nothing, "overrides": {}, "resume": False, "new": False, **changes}
        return choose_run(job, home=home, held=held, **arguments)


def test_the_same_request_goes_on_with_the_run_that_was_stopped_and_another_one_does_not(
    job_of: Jobs, tmp_path: Path
) -> None:
    job, home = job_of(tmp_path / "jobs").path, tmp_path / "home"
    first = choose(job, home)
    assert not first.found
    assert [path for path in home.rglob("*") if path.stat().st_mode & 0o077] == []
    assert choose(job, home).uid != first.uid  # it was not stopped on request: it may still be at work
    written = first.folder / "server" / "round_000"
    written.mkdir(parents=True)
    (written / "manifest.json").write_text("{}")
    RunFolder(first.folder).stopped.write_text(json.dumps({"request": first.request}))
    again = choose(job, home)
    assert (again.uid, again.found, again.resume) == (first.uid, True, True)
    others: list[dict[str, Any]] = [
        {"rounds": 9},
        {"overrides": {"epochs": 9}},
        {"method": "local"},
        {"data": tmp_path},
        {"new": True},
    ]
    for other in others:
        found = choose(job, home, **other)
        assert not found.found, other
        assert found.uid != first.uid


def test_a_job_without_a_custom_folder_gets_one_for_the_simulator(job_of: Jobs, tmp_path: Path) -> None:
    written = JobFolder.write(job_of(tmp_path / "jobs").job, tmp_path / "written", marker=False)
    assert (choose(written.path, tmp_path / "home").job.path / "app" / "custom").is_dir()
    assert not (written.path / "app" / "custom").exists()


def test_a_stopped_run_that_is_named_goes_on_for_the_same_request_alone(job_of: Jobs, tmp_path: Path) -> None:
    job, home = job_of(tmp_path / "jobs").path, tmp_path / "home"
    first = choose(job, home, uid="monday")
    written = first.folder / "server" / "round_000"
    written.mkdir(parents=True)
    (written / "manifest.json").write_text("{}")
    RunFolder(first.folder).stopped.write_text(json.dumps({"request": first.request}))
    again = choose(job, home, uid="monday")
    assert (again.uid, again.found, again.resume) == ("monday", True, True)
    with pytest.raises(SimulationError, match="resume it"):
        choose(job, home, uid="monday", rounds=9)


def test_another_method_is_another_federation_at_the_same_rank_and_scale(job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs")
    chosen = choose(job.path, tmp_path / "home", method="fedit", overrides={"epochs": 2})
    assert chosen.job.federation == "fedavg_lora_prostate"
    assert chosen.folder.parent.name == "fedavg_lora_prostate"
    said, before = chosen.job.job, load_method(job.job.bundle, job.job.settings)
    assert said.settings == {**job.job.settings, "epochs": 2, "method": "fedavg_lora"}
    after = load_method(said.bundle, said.settings)
    assert after.name == "fedavg_lora" != before.name
    assert [(one.rank, one.scale) for one in after.adapters] == [(one.rank, one.scale) for one in before.adapters]
    with pytest.raises(ValueError, match="no method is called 'nothing'; there are: "):
        choose(job.path, tmp_path / "home", method="nothing")
