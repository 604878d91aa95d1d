"""The proof-of-concept script: clear refusals, its own processes only, and (soak) a whole run that leaves nothing."""

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from sitelora.data.phantom.make import TINY as SMALLEST
from sitelora.data.phantom.make import make_phantom
from sitelora.site_kit.processes import end_leftovers, processes_of

SITES = [f"site-{number}" for number in range(1, 7)]
TINY_JOB = Path(__file__).parent / "tiny_job"


@pytest.fixture
def poc(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "poc_workspace"))
    return importlib.import_module("run_poc")


@pytest.fixture
def system(poc: ModuleType) -> ModuleType:
    return importlib.import_module("poc_system")


def test_sites_come_from_the_jobs_deploy_map(system: ModuleType, tmp_path: Path) -> None:
    assert system.sites_of(TINY_JOB) == ["site-1", "site-2"]
    (tmp_path / "meta.json").write_text('{"deploy_map": {"app": ["@ALL"]}}', encoding="utf-8")
    assert system.sites_of(tmp_path) == []


@pytest.mark.parametrize("meta", [None, "not json", "[]", "{}", '{"deploy_map": []}'])
def test_a_folder_without_a_job_is_refused(system: ModuleType, tmp_path: Path, meta: str | None) -> None:
    if meta is not None:
        (tmp_path / "meta.json").write_text(meta, encoding="utf-8")
    with pytest.raises(system.PocError, match="no NVFlare job folder"):
        system.sites_of(tmp_path)


def test_project_takes_the_jobs_sites_and_the_port(system: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "project.yml"
    assert system.write_project(target, sites=["montgomery", "shenzhen"], port=9000) == ["montgomery", "shenzhen"]
    people = {one["name"]: one for one in yaml.safe_load(target.read_text(encoding="utf-8"))["participants"]}
    server = people[system.SERVER]
    assert (server["fed_learn_port"], server["admin_port"]) == (9000, 9001)
    assert people[system.ADMIN]["role"] == "project_admin"
    assert {name for name, one in people.items() if one["type"] == "client"} == {"montgomery", "shenzhen"}
    assert system.write_project(target, sites=[], port=8002) == SITES


def test_a_taken_port_is_named(system: ModuleType) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(system.PocError, match=f"Port {port} .*--port"):
            system.require_free_ports([port])
    system.require_free_ports([port])


def result(**changes: object) -> dict:
    rounds = [{"round": number, "sites": {site: {"status": "ok"} for site in SITES}} for number in range(2)]
    return {"completed": True, "rounds_planned": 2, "rounds_done": 2, "rounds": rounds, **changes}


def write_result(folder: Path, content: dict) -> Path:
    (folder / "workspace").mkdir(parents=True)
    (folder / "workspace" / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_complete_result_is_accepted(poc: ModuleType, tmp_path: Path) -> None:
    assert poc.check_result(write_result(tmp_path / "id", result()), SITES).endswith("2 rounds, 6 sites")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"completed": False}, "completed is False"),
        ({"rounds_done": 1}, "1 of 2 rounds"),
        ({"rounds_done": 0, "rounds_planned": 0, "rounds": []}, "0 of 0 rounds"),
        ({"rounds": [{"round": 1, "sites": {site: {"status": "ok"} for site in SITES[:5]}}]}, "site-6"),
        ({"rounds": [{"round": 1, "sites": {site: {"status": "rejected"} for site in SITES}}]}, "site-1, site-2"),
    ],
)
def test_a_result_that_is_not_whole_is_refused(poc: ModuleType, tmp_path: Path, changes: dict, complaint: str) -> None:
    with pytest.raises(poc.PocError, match=complaint):
        poc.check_result(write_result(tmp_path / "id", result(**changes)), SITES)


def test_no_result_is_refused_whatever_the_exit_code_said(poc: ModuleType, tmp_path: Path) -> None:
    # A result.json inside the job that was sent is not the server's answer.
    write_result(tmp_path / "id" / "job", result())
    with pytest.raises(poc.PocError, match="found 0"):
        poc.check_result(tmp_path / "id", SITES)


def test_only_the_systems_own_processes_are_ended(tmp_path: Path) -> None:
    startup = tmp_path / "poc" / "project" / "prod_00" / "site-1" / "startup"
    startup.mkdir(parents=True)
    (startup / "sub_start.sh").write_text("sleep 300; true\n", encoding="utf-8")
    log = startup / "log.txt"
    log.touch()
    own = subprocess.Popen(["bash", str(startup / "sub_start.sh")])
    other = subprocess.Popen(["tail", "-f", str(log)])
    try:
        deadline = time.monotonic() + 30
        while len(processes_of(tmp_path / "poc")) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        ended = end_leftovers(tmp_path / "poc", patience_s=0)
        assert own.pid in ended
        assert len(ended) == 2  # the script and what it had started
        assert other.poll() is None
        assert processes_of(tmp_path / "poc") == []
    finally:
        for process in (own, other):
            process.kill()
            process.wait()


def test_everything_is_written_below_the_run_folder(system: ModuleType, tmp_path: Path) -> None:
    layout = system.Layout(root=tmp_path)
    environment = layout.environment(layout.data)
    for name in ("HOME", "TMPDIR", "SITELORA_HOME", "SITELORA_DATA", "NVFLARE_POC_WORKSPACE", "XDG_CACHE_HOME"):
        assert Path(environment[name]).is_relative_to(tmp_path), name
    (layout.data / "prostate").mkdir(parents=True)
    (layout.system / "old").mkdir(parents=True)
    layout.renew()
    assert (layout.data / "prostate").is_dir(), "the phantom is kept"
    assert not layout.system.exists(), "a system is made anew"


def test_policies_are_what_site_install_writes(poc: ModuleType, system: ModuleType, tmp_path: Path) -> None:
    from sitelora.policy.site_policy import Policy
    from sitelora.site_kit.install import differences
    from sitelora.site_kit.startup_kit import StartupKit

    layout = system.Layout(root=tmp_path / "run")
    layout.renew()
    kits = provisioned(system, layout.root)
    poc.install_policies(kits, layout, layout.data, ["site-1"])
    policy = Policy.read(kits / "site-1" / "local" / "sitelora.json")
    assert (policy.level, policy.site_code, policy.bundles) == ("consortium", "none", ("iat_segmentation",))
    assert [differences(StartupKit.read(kits / name)) for name in ("localhost", "site-1")] == [[], []]


def test_project_provisions_six_sites_on_loopback(system: ModuleType, tmp_path: Path) -> None:
    kits = provisioned(system, tmp_path)
    people = {"localhost", *SITES, "admin@sitelora.example", "lead@sitelora.example"}
    assert {path.name for path in kits.iterdir()} == people
    server = json.loads((kits / "localhost" / "startup" / "fed_server.json").read_text(encoding="utf-8"))
    assert server["servers"][0]["service"]["target"] == "localhost:8002"


def provisioned(system: ModuleType, folder: Path) -> Path:
    system.write_project(folder / "project.yml", sites=[], port=8002)
    nvflare = Path(sys.executable).parent / "nvflare"
    command = [str(nvflare), "provision", "-p", "project.yml", "-w", ".", "--force"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder / "sitelora_poc" / "prod_00"


def run_script(
    repository: Path, tmp_path: Path, *options: str, job: Path = TINY_JOB
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(repository / "poc_workspace" / "run_poc.sh")
    places = ["--run-folder", str(tmp_path / "run"), "--data", str(tmp_path / "data"), "--port", str(port)]
    return subprocess.run(
        ["bash", script, str(job), *places, *options],
        cwd=tmp_path,
        env={**os.environ, "SITELORA_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.soak
def test_a_whole_run_ends_by_itself_and_leaves_nothing(
    repository: Path, system: ModuleType, tmp_path: Path, test_home: Path
) -> None:
    def status() -> str:
        command = ["git", "status", "--porcelain", "--ignored", "--", "poc_workspace", "jobs"]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True).stdout

    before, home_before = status(), sorted(test_home.iterdir())
    run = run_script(repository, tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert processes_of(tmp_path / "run") == []
    assert status() == before
    assert sorted(test_home.iterdir()) == home_before
    (found,) = (tmp_path / "run" / "download").glob("*/workspace/result.json")
    last = json.loads(found.read_text(encoding="utf-8"))["rounds"][-1]["sites"]
    expected = {"status": "ok", "data_root": str(tmp_path / "data")}
    assert last == {"site-1": expected, "site-2": expected}
    storage = list((tmp_path / "run" / "poc" / "jobs-storage").iterdir())
    assert storage, "the server keeps its jobs inside the run folder"


TINY: dict[str, object] = {"image_size": 32, "slices": 3, "precision": "fp32", "epochs": 1, "method#rank": 2}


def job_of_the_command(folder: Path, *more: str) -> Path:
    """A job as `sitelora job` writes it, for two sites and as small as can be."""
    words = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    command = ["job", "iat_prostate", "--rounds", "2", "--sites", "site-1,site-2", "--out", str(folder), *words, *more]
    done = subprocess.run([sys.executable, "-m", "sitelora.cli", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.soak
def test_the_commands_job_runs_at_strict_sites_arrives_as_written_and_is_reported(
    repository: Path, system: ModuleType, tmp_path: Path
) -> None:
    make_phantom(tmp_path / "data", size=SMALLEST, sites=["site-1", "site-2"])
    job = job_of_the_command(tmp_path)
    written = (job / "app" / "config" / "sitelora.json").read_bytes()
    run = run_script(repository, tmp_path, "--policies", job=job)
    assert run.returncode == 0, run.stdout + run.stderr
    (downloaded,) = (tmp_path / "run" / "download").iterdir()
    files = [path for path in downloaded.rglob("sitelora.json") if path.parent.name == "config"]
    assert files
    assert {path.read_bytes() for path in files} == {written}, "keys with # and . arrive as they were written"
    result = json.loads((downloaded / "workspace" / "result.json").read_text(encoding="utf-8"))
    assert result["completed"]
    asked = json.loads(written)["settings"]
    assert result["overrides"] == asked
    assert asked["method#rank"] == 2
    report = tmp_path / "report"
    command = ["report", str(downloaded), "--out", str(report)]
    told = subprocess.run([sys.executable, "-m", "sitelora.cli", *command], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert list(report.rglob("*.html"))
    assert processes_of(tmp_path / "run") == []


@pytest.mark.soak
@pytest.mark.parametrize("what", ["code", "an object in arguments", "a stock component", "an expression"])
def test_strict_sites_refuse_what_is_not_ours_and_execute_nothing(
    what: str, repository: Path, system: ModuleType, tmp_path: Path
) -> None:
    make_phantom(tmp_path / "data", size=SMALLEST, sites=["site-1", "site-2"])
    job = job_of_the_command(tmp_path, *(["--simulator"] if what == "code" else []))
    payload = tmp_path / "PAYLOAD"
    touch = {"path": "pathlib.Path.touch", "args": {"self": {"path": "pathlib.Path", "args": {"args": str(payload)}}}}
    config = job / "app" / "config"
    client = json.loads((config / "config_fed_client.json").read_text(encoding="utf-8"))
    if what == "code":
        source = f"from pathlib import Path\nPath({str(payload)!r}).touch()\n"
        (job / "app" / "custom" / "sitecustomize.py").write_text(source, encoding="utf-8")
    elif what == "an object in arguments":
        client["executors"][0]["executor"]["args"] = {"x": touch}
    elif what == "a stock component":
        stock = "nvflare.app_common.widgets.validation_json_generator.ValidationJsonGenerator"
        client["components"] = [{"id": "x", "path": stock, "args": {}}]
    else:
        said = json.loads((config / "sitelora.json").read_text(encoding="utf-8"))
        said["settings"]["torch_threads"] = f"$__import__('pathlib').Path({str(payload)!r}).touch()"
        (config / "sitelora.json").write_text(json.dumps(said), encoding="utf-8")
    (config / "config_fed_client.json").write_text(json.dumps(client), encoding="utf-8")
    run = run_script(repository, tmp_path, "--policies", job=job)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "FAILED" in run.stdout
    assert not payload.exists()
    assert not list((tmp_path / "run" / "sitelora").glob("*/*/*/round_*"))
    assert processes_of(tmp_path / "run") == []
