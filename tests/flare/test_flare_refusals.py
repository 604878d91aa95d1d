"""Jobs that say what no job may say, in NVFlare's own simulator: exit code, result.json, and nothing executed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitelora.cli import main
from sitelora.federation.job import JOB_FILE
from sitelora.federation.job_folder import CLIENT_CONFIG, SERVER_CONFIG, JobFolder

Jobs = Callable[..., JobFolder]
Simulator = Callable[[Path], tuple[int, dict[str, Any] | None]]

PAYLOAD = "PAYLOAD"
TOUCH = f"$__import__('pathlib').Path('{PAYLOAD}').touch()"
TARGET = {"_target_": "pathlib.Path.touch", "self": f"$__import__('pathlib').Path('{PAYLOAD}')"}
soak = pytest.mark.soak
VALUES = [
    pytest.param({"torch_threads": TOUCH}, "never code", id="expression"),
    pytest.param({"schedule": TARGET}, "'_target_'", id="target", marks=soak),
    pytest.param({"lerning_rate": 0.1}, "did you mean 'learning_rate'", id="unknown id", marks=soak),
    pytest.param({"method#rank": 100000}, "1 to 256", id="rank", marks=soak),
    pytest.param({"method#rnk": 4}, "did you mean 'method#rank'", id="mistyped argument", marks=soak),
]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def require_nothing_done(folder: Path) -> None:
    """Nothing was executed, nothing was trained."""
    assert not list(folder.rglob(PAYLOAD))
    assert not list(folder.glob("home/*/*/*/round_*"))


@pytest.mark.parametrize(("settings", "told"), VALUES)
def test_nvflares_simulator_ends_with_an_exit_code_and_a_reason(
    settings: dict[str, Any], told: str, job_of: Jobs, nvflare_simulator: Simulator, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "jobs")
    edit(job.path / "app" / "config" / JOB_FILE, lambda content: content["settings"].update(settings))
    code, result = nvflare_simulator(job.path)
    assert code != 0
    assert result is not None
    assert not result.completed
    assert told in result.error
    require_nothing_done(tmp_path)


@pytest.mark.parametrize(("settings", "told"), VALUES)
def test_every_command_refuses_them_too(
    settings: dict[str, Any], told: str, job_of: Jobs, tiny_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    job = job_of(tmp_path / "jobs")
    words = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    for command in (
        ["simulate", str(job.path), "--home", str(tmp_path / "home"), *words],
        ["egress", "iat_segmentation", *words],
        ["compare", "--dataset", "prostate_phantom", "--methods", "iat", "--seeds", "1", "--out", "out", *words],
        ["job", "iat_prostate", *words],
    ):
        assert main(command) == 2, command
        assert told in capsys.readouterr().err, command
    edit(job.path / "app" / "config" / JOB_FILE, lambda content: content["settings"].update(settings))
    assert main(["simulate", str(job.path), "--home", str(tmp_path / "home")]) == 2
    assert told in capsys.readouterr().err
    require_nothing_done(tmp_path)
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "out" / "runs").exists()


@soak
def test_arguments_of_a_component_are_refused_with_an_exit_code_and_a_reason(
    job_of: Jobs, nvflare_simulator: Simulator, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "jobs")
    edit(
        job.path / "app" / "config" / SERVER_CONFIG,
        lambda c: c["workflows"][0].update(args={"overrides": {"epochs": 1}}),
    )
    code, result = nvflare_simulator(job.path)
    assert code != 0
    assert result is not None
    assert "the arguments overrides, expected none" in result.error
    edit(job.path / "app" / "config" / SERVER_CONFIG, lambda c: c["workflows"][0].update(args={}))
    edit(job.path / "app" / "config" / CLIENT_CONFIG, lambda c: c["executors"][0]["executor"].update(args={"x": 1}))
    code, result = nvflare_simulator(job.path)
    assert code != 0
    assert result is not None
    assert not result.completed
    require_nothing_done(tmp_path)


@soak
@pytest.mark.parametrize("side", ["server", "sites"])
def test_a_job_that_was_edited_at_one_side_only_is_refused_with_what_differs(
    side: str, job_of: Jobs, nvflare_simulator: Simulator, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "jobs")
    shutil.copytree(job.path / "app", job.path / "other")
    edited = job.path / ("app" if side == "sites" else "other") / "config" / JOB_FILE
    edit(edited, lambda content: content["settings"].update({"learning_rate": 0.5, "method#rank": 2}))
    sites = {"app": list(job.sites), "other": ["server"]}
    edit(job.path / "meta.json", lambda content: content.update(deploy_map=sites))
    code, result = nvflare_simulator(job.path)
    assert code != 0
    assert result is not None
    assert not result.completed
    assert "nothing was trained" in result.error
    assert "settings.learning_rate, settings.method at site-1, site-2" in result.error
    require_nothing_done(tmp_path)


def test_another_number_of_rounds_at_a_site_is_named(job_of: Jobs, tmp_path: Path) -> None:
    from dataclasses import replace

    from sitelora.federation.agreement import other_jobs

    job = job_of(tmp_path).job
    server = job.agreed(job.run_settings())
    changed = replace(job, rounds=9, settings={**job.settings, "batch_size": 4, "seed": 3})
    found = changed.agreed(changed.run_settings())
    assert other_jobs(server, {"site-1": {"agreed": found}, "site-2": {"agreed": server}}) == [
        "rounds, settings.seed at site-1"
    ]
    assert other_jobs(server, {"site-1": {}})[0].endswith(" at site-1")
    own = replace(job, uid="u", train_timeout=9, settings={**job.settings, "batch_size": 4, "precision": "bf16"})
    assert own.agreed(own.run_settings()) == server
