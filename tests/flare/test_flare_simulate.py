"""What surrounds a simulation: the edited job, folders that are not to be emptied, what is shown, the verdict."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from sitelora.federation.bundle_config import load_method
from sitelora.federation.events import EventLog
from sitelora.federation.run_folder import RunFolder
from sitelora.flare.chosen_run import SimulationError, choose_run, last_unfinished, stopped_before
from sitelora.flare.following import EventFollower, RunView, SiteView
from sitelora.flare.job_folder import CLIENT_CONFIG, JobFolder, JobFolderError
from sitelora.flare.processes import ProcessFamily
from sitelora.flare.simulate import simulate
from sitelora.flare.terminal import RunDisplay, block, plain_line
from sitelora.flare.verdict import problems_of, read_result
from sitelora.run_result import Round, RunResult, SiteRound
from sitelora.value_kinds import SettingsError

Jobs = Callable[..., JobFolder]


def test_a_copy_of_the_job_carries_what_was_asked_for_and_the_job_itself_stays(job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs", overrides={"base": None})
    before = {path: path.read_bytes() for path in job.path.rglob("*") if path.is_file()}
    wanted = replace(job.job, rounds=7, settings={"base": None, "epochs": 3}, uid="run-9", resume=True)
    copy = job.edited(tmp_path / "copy", wanted)
    assert copy.job == wanted == JobFolder.read(tmp_path / "copy").job
    assert before == {path: path.read_bytes() for path in job.path.rglob("*") if path.is_file()}
    assert job.rounds == 2


def test_a_job_without_a_custom_folder_gets_one_for_the_simulator(job_of: Jobs, tmp_path: Path) -> None:
    written = JobFolder.write(job_of(tmp_path / "jobs").job, tmp_path / "written", marker=False)
    assert (choose(written.path, tmp_path / "home").job.path / "app" / "custom").is_dir()
    assert not (written.path / "app" / "custom").exists()


def test_a_folder_that_is_no_job_is_named(job_of: Jobs, tmp_path: Path) -> None:
    with pytest.raises(JobFolderError, match=r"meta\.json"):
        JobFolder.read(tmp_path)
    with pytest.raises(JobFolderError, match=r"found no folder .*absent, expected a job folder"):
        JobFolder.read(tmp_path / "absent")
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(JobFolderError, match=r"config_fed_server\.json"):
        JobFolder.read(tmp_path)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


STOCK = {"id": "x", "path": "nvflare.app_common.widgets.validation_json_generator.ValidationJsonGenerator", "args": {}}
OTHERS: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "workflow": ("server", lambda c: c["workflows"][0].update(path="nvflare.x.FedAvg"), "nvflare.x.FedAvg"),
    "second workflow": ("server", lambda c: c["workflows"].append(STOCK), "workflows"),
    "arguments": ("server", lambda c: c["workflows"][0]["args"].update(rounds=3), "rounds"),
    "an object in arguments": (
        "client",
        lambda c: c["executors"][0]["executor"]["args"].update(x={"path": "subprocess.Popen", "args": {"args": "ls"}}),
        "subprocess.Popen",
    ),
    "component": ("client", lambda c: c["components"].append(STOCK), "ValidationJsonGenerator"),
    "filter": ("client", lambda c: c["task_result_filters"].append({"tasks": ["*"], "filters": [STOCK]}), "filters"),
    "executor": ("client", lambda c: c["executors"].append(c["executors"][0]), "executors"),
    "no executor": ("client", lambda c: c.pop("executors"), "no executors"),
    "another key": ("client", lambda c: c.update(launcher={"path": "x.Y"}), "launcher"),
    "server's setting": ("server", lambda c: c["server"].update(path="x.Y"), "x.Y"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_job_with_anything_but_our_two_components_is_refused_before_a_process_starts(
    what: str, job_of: Jobs, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "jobs")
    side, change, told = OTHERS[what]
    edit(job.path / "app" / "config" / f"config_fed_{side}.json", change)
    with pytest.raises(JobFolderError, match=r"something else than SiteLoRA|found no executors") as caught:
        simulate(job.path, home=tmp_path / "home")
    assert told in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_nvflares_own_numbers_may_stand_in_its_configuration(job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs")
    edit(job.path / "app" / "config" / CLIENT_CONFIG, lambda c: c.update(get_task_timeout=300))
    edit(job.path / "app" / "config" / "config_fed_server.json", lambda c: c["server"].update(task_request_interval=2))
    assert JobFolder.read(job.path).job == job.job


@pytest.mark.parametrize(
    "name", ["app/custom/mine.py", "app/config/config_fed_server.conf", "app/config/more.json", "second/config/x.json"]
)
def test_a_job_that_brings_a_file_of_its_own_is_refused(name: str, job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs")
    (job.path / name).parent.mkdir(parents=True, exist_ok=True)
    (job.path / name).write_text("{}")
    with pytest.raises(JobFolderError, match=f"found {name}"):
        JobFolder.read(job.path)


def test_two_apps_or_other_sites_than_the_jobs_are_refused(job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs")
    edit(job.path / "meta.json", lambda c: c["deploy_map"]["app"].remove("site-2"))
    with pytest.raises(JobFolderError, match="expected app for server, site-1, site-2"):
        JobFolder.read(job.path)
    shutil.copytree(job.path / "app", job.path / "other")
    with pytest.raises(JobFolderError, match="found 2 apps"):
        JobFolder.read(job.path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rouns": 3}, "did you mean 'rounds'"),
        ({"rounds": "3"}, "whole number"),
        ({"rounds": True}, "whole number"),
        ({"sites": "site-1"}, "a list of names"),
        ({"sites": ["../up"]}, "names a folder"),
        ({"wire": {"dtype": "int4"}}, "one of bfloat16, float32"),
        ({"wire": {"clip": 1}}, "did you mean"),
        ({"settings": {"torch_threads": "$1"}}, "never code"),
        ({"settings": {"epochs": {"_target_": "os.getcwd"}}}, "_target_"),
        ({"$x": 1}, "never code"),
        ({"format": 2}, "expected format 1"),
        ({"federation": None}, "federation is None"),
    ],
)
def test_a_job_file_that_cannot_be_is_refused(change: dict[str, Any], told: str, job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs")
    edit(job.path / "app" / "config" / "sitelora.json", lambda content: content.update(change))
    with pytest.raises(JobFolderError, match=r"sitelora\.json") as caught:
        JobFolder.read(job.path)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lerning_rate": 1}, "did you mean 'learning_rate'"),
        ({"method#rank": 100000}, "1 to 256"),
        ({"arch": "vit_b"}, "sam_vit_b"),
    ],
)
def test_values_of_a_job_are_judged_before_a_process_starts(
    settings: dict[str, Any], told: str, job_of: Jobs, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "jobs")
    edit(job.path / "app" / "config" / "sitelora.json", lambda content: content.update(settings=settings))
    with pytest.raises(SettingsError) as caught:
        simulate(job.path, home=tmp_path / "home")
    assert told in str(caught.value)
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


def result_of(**changes: Any) -> RunResult:
    entries = {site: SiteRound(status="ok") for site in ("site-1", "site-2")}
    rounds = [Round(number=n, seconds=1.0, sites=entries) for n in range(2)]
    good: dict[str, Any] = {
        "completed": True,
        "rounds_done": 2,
        "rounds": rounds,
        "evaluation": {"site-1": {}, "site-2": {}},
    }
    return RunResult(**{**good, **changes})


def test_only_all_rounds_of_all_sites_with_clean_logs_are_a_success(job_of: Jobs, tmp_path: Path) -> None:
    job, workspace = job_of(tmp_path / "jobs"), tmp_path / "work"
    for who in ("server", "site-1"):
        (workspace / who).mkdir(parents=True)
        (workspace / who / "error_log.txt").write_text("")
    assert problems_of(job, result_of(), workspace, 0) == []

    assert "no result.json" in problems_of(job, None, workspace, 0)[0]
    assert problems_of(job, result_of(completed=False, error="disk full"), workspace, 0) == ["disk full"]
    assert "1 rounds were done, expected 2" in problems_of(job, result_of(rounds_done=1), workspace, 0)
    assert problems_of(job, result_of(evaluation={"site-1": {}}), workspace, 0) == ["no evaluation from site-2"]
    assert problems_of(job, result_of(), workspace, 2) == ["NVFlare's simulator ended with exit code 2"]
    first, second = result_of().rounds
    silent = SiteRound(status="missing", reason="no answer within 5 s")
    missing = result_of(rounds=[first, replace(second, sites={**second.sites, "site-2": silent})])
    assert problems_of(job, missing, workspace, 0) == ["round 2: site-2 missing: no answer within 5 s"]
    (workspace / "site-1" / "error_log.txt").write_text("line one\nValueError: bad image\n")
    (problem,) = problems_of(job, result_of(), workspace, 0)
    assert "site-1 logged errors" in problem
    assert "ValueError: bad image" in problem


def test_the_result_is_read_from_the_workspace_of_this_run(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    folder = tmp_path / "server" / "simulate_job"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"completed": true}')
    assert read_result(tmp_path) == RunResult(completed=True)


def test_the_follower_tells_new_whole_lines_only(tmp_path: Path) -> None:
    old = EventLog(tmp_path / "server", "server")
    old.write("finished", completed=False, error="an earlier run")
    follower = EventFollower(tmp_path)
    assert follower.poll() == []
    site = EventLog(tmp_path / "site-1", "site-1")
    site.write("task_started", task="train", round=0, bytes_down=10)
    with site.path.open("a") as stream:
        stream.write('{"time": 1, "who": "site-1", ')
    assert [event["event"] for event in follower.poll()] == ["task_started"]
    with site.path.open("a") as stream:
        stream.write('"event": "step"}\n')
    assert [event["event"] for event in follower.poll()] == ["step"]
    assert follower.poll() == []


def events_of_a_round() -> list[dict[str, Any]]:
    started = {"federation": "fed", "uid": "u", "sites": ["site-1", "site-2"], "first_round": 0, "method": "iat"}
    metrics = {"loss": 0.5, "dice_received": 0.1, "dice_personal": 0.6}
    lines: list[tuple[str, str, dict[str, Any]]] = [
        ("server", "federation_started", started),
        ("site-1", "artificial_data", {"folder": "somewhere"}),
        ("server", "begun", {"sites": {"site-1": {}, "site-2": {}}}),
        ("server", "round_started", {"round": 0}),
        ("site-1", "task_started", {"task": "train", "round": 0, "bytes_down": 2000}),
        ("site-1", "step", {"round": 0, "step": 3, "steps": 4, "loss": 0.4567}),
        ("site-1", "left", {"round": 0, "tensors": 2, "bytes": 1000}),
        ("site-1", "task_finished", {"task": "train", "round": 0, "seconds": 2.0, "metrics": metrics}),
        ("site-2", "error", {"error": "site-2: no data\nlook there"}),
        ("server", "update", {"round": 0, "site": "site-1", "status": "ok", "bytes_up": 1000, "metrics": metrics}),
        ("server", "update", {"round": 0, "site": "site-2", "status": "missing", "reason": "no data"}),
        ("server", "round_finished", {"round": 0, "seconds": 3.0}),
    ]
    return [{"time": n, "who": who, "event": event, **fields} for n, (who, event, fields) in enumerate(lines)]


def view_after(events: list[dict[str, Any]]) -> RunView:
    view = RunView(rounds=5, sites={"site-1": SiteView(), "site-2": SiteView()})
    for event in events:
        view.take(event)
    return view


def test_a_view_adds_events_up() -> None:
    view = view_after(events_of_a_round())
    assert (view.done, view.phase, view.artificial) == (1, "round 1 of 5", {"site-1"})
    one, two = view.sites["site-1"], view.sites["site-2"]
    assert (one.doing, one.step, one.steps, one.loss, one.dice) == ("done", 3, 4, 0.4567, 0.6)
    assert (one.bytes_up, one.bytes_down) == (1000, 2000)
    assert two.doing == "missing"
    assert view.seconds_left() is not None
    assert view_after(events_of_a_round()[:6]).seconds_left() is None


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_block_fits_and_shows_every_site(width: int) -> None:
    lines = block(view_after(events_of_a_round()), "fed u", width=width)
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert all(word in text for word in ("site-1", "site-2", "1/5", "no real data", "no data"))
    if width >= 100:
        assert all(word in text for word in ("loss 0.457", "Dice 0.600", "up 1.0 kB", "down 2.0 kB", "left"))


def test_a_terminal_gets_one_block_that_is_redrawn_and_a_log_gets_plain_lines() -> None:
    view, events = view_after(events_of_a_round()), events_of_a_round()
    terminal = io.StringIO()
    display = RunDisplay(view, title="fed u", stream=terminal, live=True)
    display.show(events[:3])
    display.show(events[3:])
    assert terminal.getvalue().count("\x1b[") == 2  # one move up, one erase
    log = io.StringIO()
    RunDisplay(view, title="fed u", stream=log).show(events)
    assert "\x1b" not in log.getvalue()
    assert "round 1/5: site-1 sent 1.0 kB, loss 0.500, Dice 0.100 -> 0.600" in log.getvalue()
    assert "round 1/5: site-2 missing: no data" in log.getvalue()
    assert "NO REAL DATA" in log.getvalue()


def test_unknown_events_are_no_harm() -> None:
    event = {"time": 0, "who": "site-1", "event": "from the future"}
    view_after([event, {**event, "who": "server"}, {**event, "who": "stranger"}])
    assert plain_line(event, 5) is None


SLEEPERS = """
import subprocess, sys, time
child = "import time; time.sleep(120)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(120)
"""


def test_ending_a_simulator_ends_workers_with_sessions_of_their_own(tmp_path: Path) -> None:
    family = ProcessFamily([sys.executable, "-c", SLEEPERS], folder=tmp_path, env=os.environ, log=tmp_path / "log")
    me, deadline = psutil.Process(), time.monotonic() + 20
    while len(mine := me.children(recursive=True)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert family.returncode() is None
    assert len(mine) == 2
    assert len(family.end()) == 1
    assert family.returncode() is not None
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in mine)


def test_the_runner_itself_needs_neither_torch_nor_monai_nor_nvflare() -> None:
    """It sits beside six sites and a server while they work; each of these costs it hundreds of megabytes."""
    code = (
        "import sys, sitelora.flare.simulate; heavy = {'torch', 'monai', 'nvflare', 'numpy'} & set(sys.modules); "
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert run.returncode == 0
