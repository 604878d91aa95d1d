"""NVFlare's simulator when things go wrong: one thread, killed and resumed, a site that dies, a job that cheats."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from nvflare.recipe import SimEnv

from run_states import state_hashes
from sitelora.federation.job_folder import CLIENT_CONFIG, JobFolder, JobFolderError
from sitelora.federation.task_names import TASKS
from sitelora.flare.recipe import FederationRecipe
from sitelora.run_result import RunResult
from sitelora.simulator.check_outcome import problems_of, read_result
from sitelora.simulator.processes import environment, simulator_command
from sitelora.simulator.simulate import simulate

Jobs = Callable[..., JobFolder]
pytestmark = pytest.mark.soak

SIMULATE = """
import sys
from pathlib import Path
from sitelora.simulator.simulate import simulate
from sitelora.simulator.check_outcome import problems_of, read_result
from sitelora.run_result import RunResult

job, home, data, resume = sys.argv[1:5]
done = simulate(Path(job), home=Path(home), data=Path(data), uid="run-1", resume=resume == "resume")
print(done.problems)
sys.exit(0 if done.ok else 130 if done.interrupted else 1)
"""

BAD_COMPANY = '''
"""A job's own code, as a test of what happens when it misbehaves."""

import os

import torch
from nvflare.apis.filter import Filter
from sitelora.flare.executor import SiteExecutor
from sitelora.federation.task_names import TRAIN
from sitelora.flare.protocol import read_task


class MortalExecutor(SiteExecutor):
    """Dies in round 1 at site-2."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        if fl_ctx.get_identity_name() == "site-2" and task_name == TRAIN and read_task(shareable)[0].round_number == 1:
            os._exit(9)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


class Tampering(Filter):
    """Runs after the audit at site-3: NaN in round 0, a local tensor in round 1."""

    def process(self, shareable, fl_ctx):
        dxo = shareable.get("DXO", {})
        number = dxo.get("meta", {}).get("round")
        if fl_ctx.get_identity_name() == "site-3" and dxo.get("data"):
            name = sorted(dxo["data"])[0]
            if number == 0:
                dxo["data"][name] = torch.full_like(dxo["data"][name], float("nan"))
            if number == 1:
                dxo["data"][name.replace(".B", ".A")] = torch.ones(3)
        return shareable
'''

POLICY = {
    "scopes": [{"name": "sitelora"}],
    "default_scope": "sitelora",
    "components": [{"id": "p", "path": "sitelora.flare.policy.SitePolicy", "args": {"bundles": ["iat_segmentation"]}}],
}


def test_one_thread_starts_every_task_anew_and_ends_with_the_same_tensors(
    job_of: Jobs, in_process_of: Callable[..., RunResult], tiny_data: Path, tmp_path: Path
) -> None:
    before = in_process_of()
    done = simulate(job_of(tmp_path).path, home=tmp_path / "home", data=tiny_data, uid="run-1", threads=1)
    assert done.problems == ()
    assert done.result is not None
    assert done.result.fingerprint == before.fingerprint
    assert state_hashes(done.run_folder) == state_hashes(tmp_path / "home_in_process" / "iat_prostate" / "run-1")


def test_killed_inside_a_round_and_resumed_ends_bit_for_bit_as_if_nothing_had_happened(
    job_of: Jobs,
    in_process_of: Callable[..., RunResult],
    tiny_data: Path,
    overrides: dict[str, Any],
    tmp_path: Path,
) -> None:
    values = {**overrides, "epochs": 6}
    job = job_of(tmp_path, rounds=3, overrides=values)
    before = in_process_of(rounds=3, overrides=values)
    home = tmp_path / "home"
    command = [sys.executable, "-c", SIMULATE, str(job.path), str(home), str(tiny_data)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen([*command, "new"], env=env, stdout=subprocess.PIPE, text=True)
    family: dict[int, psutil.Process] = {}
    events = home / "iat_prostate" / "run-1" / "site-1" / "events.jsonl"
    deadline = time.monotonic() + 300
    while not _is_in_round(events, 1) and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()
        family.update({one.pid: one for one in psutil.Process(first.pid).children(recursive=True)})
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "The same command goes on with it" in said
    alive = [one for one in family.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert alive == []
    assert len(family) >= 4

    second = subprocess.run([*command, "resume"], env=env, capture_output=True, text=True, timeout=600)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "going on after round" in second.stdout
    result = RunResult.read(home / "iat_prostate" / "run-1" / "server" / "result.json")
    assert result.fingerprint == before.fingerprint
    assert state_hashes(home / "iat_prostate" / "run-1") == state_hashes(
        tmp_path / "home_in_process" / "iat_prostate" / "run-1"
    )
    assert result.evaluation == before.evaluation


def test_a_site_that_dies_and_a_job_that_cheats_are_named_and_the_rest_goes_on(
    job_of: Jobs, tiny_data: Path, tmp_path: Path
) -> None:
    job = job_of(
        tmp_path,
        sites=["site-1", "site-2", "site-3"],
        rounds=2,
        min_sites=1,
        uid="run-1",
    )
    (job.path / "app" / "custom" / "bad_company.py").write_text(BAD_COMPANY)
    client = job.path / "app" / "config" / CLIENT_CONFIG
    config = json.loads(client.read_text())
    config["executors"][0]["executor"]["path"] = "bad_company.MortalExecutor"
    tampering = {"tasks": list(TASKS), "filters": [{"path": "bad_company.Tampering", "args": {}}]}
    config["task_result_filters"].append(tampering)
    client.write_text(json.dumps(config))
    workspace = tmp_path / "workspace"
    (workspace / "local").mkdir(parents=True)
    (workspace / "local" / "privacy.json").write_text(json.dumps(POLICY))
    # NVFlare's own simulator: `sitelora simulate` refuses a job with other components before it starts anything
    with pytest.raises(JobFolderError, match="a job brings no code"):
        simulate(job.path, home=tmp_path / "refused")
    command = simulator_command(job=job.path, workspace=workspace, threads=3)
    env = environment(home=tmp_path / "home", data=tiny_data)
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900)
    result = read_result(workspace)
    problems = problems_of(job, result, workspace, ended.returncode)
    assert result is not None
    assert result.completed
    first, second = result.rounds
    assert {site: entry.status for site, entry in first.sites.items()} == {
        "site-1": "ok",
        "site-2": "ok",
        "site-3": "rejected",
    }
    assert "site-3" in first.sites["site-3"].reason
    assert "NaN" in first.sites["site-3"].reason
    assert second.sites["site-1"].status == "ok"
    assert second.sites["site-2"].status == "missing"
    assert "site-2: no sign of life for 6" in second.sites["site-2"].reason, "not the half hour of train_timeout"
    assert result.lost == ("site-2",)
    assert second.sites["site-3"].status == "missing"
    assert "policy_refused" in second.sites["site-3"].reason
    assert any("qkv.lora.q.A" in problem for problem in problems), "what it was stays in the site's own log"
    assert any("site-2 missing" in problem for problem in problems)
    assert any("site-3 logged errors" in problem for problem in problems)
    assert sorted(result.evaluation) == ["site-1", "site-3"]
    policy = [
        json.loads(line) for line in (tmp_path / "home" / "iat_prostate" / "run-1" / "site-3" / "policy.jsonl").open()
    ]
    assert {line["round"] for line in policy} == {-1, 0}, "what the policy kept back is not logged as sent"


def test_a_site_without_data_stops_the_run_before_training_and_says_what_to_do(
    job_of: Jobs, tiny_data: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path, sites=["site-1", "site-4"])
    done = simulate(job.path, home=tmp_path / "home", data=tiny_data, uid="run-1")
    assert not done.ok
    assert done.result is not None
    assert not done.result.completed
    assert done.result.rounds_done == 0
    error = done.result.error
    assert "nothing was trained" in error
    assert "site-4: data_unfit" in error
    assert str(tmp_path) not in error
    assert done.problems[0] == error
    assert not list(done.run_folder.glob("*/round_*"))


def test_the_recipe_runs_in_nvflares_own_simulation_environment(
    in_process_of: Callable[..., RunResult],
    tiny_data: Path,
    overrides: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("SITELORA_HOME", str(home))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    recipe = FederationRecipe(
        bundle="iat_segmentation",
        dataset="prostate",
        sites=["site-1", "site-2"],
        rounds=2,
        overrides=overrides,
        uid="run-1",
    )
    recipe.run(SimEnv(clients=recipe.sites, workspace_root=str(tmp_path / "simulation")))
    result = RunResult.read(home / "iat_prostate" / "run-1" / "server" / "result.json")
    assert result.completed
    before = in_process_of()
    assert result.fingerprint == before.fingerprint


def _is_in_round(events: Path, number: int) -> bool:
    if not events.exists():
        return False
    lines = [json.loads(line) for line in events.read_text().splitlines() if line.endswith("}")]
    return any(line["event"] == "step" and line["round"] == number for line in lines)
