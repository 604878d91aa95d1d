"""What a job folder may hold, and what of it is refused before a process starts."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sitelora.federation.job_folder import CLIENT_CONFIG, JobFolder, JobFolderError
from sitelora.simulator.simulate import simulate

Jobs = Callable[..., JobFolder]


def test_a_copy_of_the_job_carries_what_was_asked_for_and_the_job_itself_stays(job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path / "jobs", overrides={"base": None})
    before = {path: path.read_bytes() for path in job.path.rglob("*") if path.is_file()}
    wanted = replace(job.job, rounds=7, settings={"base": None, "epochs": 3}, uid="run-9", resume=True)
    copy = job.edited(tmp_path / "copy", wanted)
    assert copy.job == wanted == JobFolder.read(tmp_path / "copy").job
    assert before == {path: path.read_bytes() for path in job.path.rglob("*") if path.is_file()}
    assert job.rounds == 2


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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_job_file_that_an_editor_saved_in_another_encoding_is_the_same_job(
    encoding: str, job_of: Jobs, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "jobs")
    file = job.path / "app" / "config" / "sitelora.json"
    file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    assert JobFolder.read(job.path).job == job.job
    server = file.with_name("config_fed_server.json")  # which NVFlare reads, and as UTF-8
    server.write_bytes(server.read_text(encoding="utf-8").encode("utf-16"))
    with pytest.raises(JobFolderError, match=r"config_fed_server\.json: .*utf-8"):
        JobFolder.read(job.path)
