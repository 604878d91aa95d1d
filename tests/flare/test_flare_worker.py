"""A simulated run whose sites take turns: the worker does their tasks, with the same result, and ends with the run."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from run_states import state_hashes
from running import running
from sitelora.federation.job_folder import CLIENT_CONFIG, JobFolder
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.run_lock import Holder
from sitelora.federation.task_names import TASKS
from sitelora.run_result import RunResult
from sitelora.simulator.check_outcome import read_result
from sitelora.simulator.processes import environment, simulator_command

Jobs = Callable[..., JobFolder]
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SITES = ["site-1", "site-2"]
WORKER = "sitelora.simulator.worker"
OF_THE_RUN_ALONE = {"seconds", "state_hmac"}
"""Times, and what a site says of its state under its own secret, which every home has another of."""
POLICY = {
    "scopes": [{"name": "sitelora"}],
    "default_scope": "sitelora",
    "components": [{"id": "p", "path": "sitelora.flare.policy.SitePolicy", "args": {"bundles": ["iat_segmentation"]}}],
}
WHO_IMPORTS = """
import json, os, sys

with open(os.environ["WHO_IMPORTS"], "a") as log:
    log.write(json.dumps([__name__, *sys.orig_argv]) + "\\n")
"""

JOB_FILTER = """
from nvflare.apis.filter import Filter


class Through(Filter):
    def process(self, shareable, fl_ctx):
        return shareable
"""


@dataclass
class Run:
    """NVFlare's own simulator at work, and where it works."""

    process: subprocess.Popen[str]
    root: Path

    @property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.root / "home", "iat_prostate", "run-1")

    def events(self, site: str) -> list[dict[str, Any]]:
        file = self.folder.site(site) / "events.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def worker(self) -> psutil.Process:
        """The worker, once a site is in its first round."""
        deadline = time.monotonic() + 300
        while not any(e["event"] == "step" for site in SITES for e in self.events(site)):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (found,) = running(self.family(), WORKER)
        return found


@pytest.fixture
def started(job_of: Jobs, tiny_data: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start NVFlare's own simulator on a job of two sites."""
    runs: list[Run] = []

    def start(
        threads: int,
        *,
        job: JobFolder | None = None,
        data: Path = tiny_data,
        privacy: dict[str, Any] | None = None,
        **env: str,
    ) -> Run:
        root = tmp_path / f"threads_{threads}"
        local = root / "workspace" / "local"
        local.mkdir(parents=True)
        if privacy:
            (local / "privacy.json").write_text(json.dumps(privacy))
        asked = job or job_of(root, sites=SITES, uid="run-1", min_sites=1)
        process = subprocess.Popen(
            simulator_command(job=asked.path, workspace=root / "workspace", threads=threads),
            cwd=root,
            env={**environment(home=root / "home", data=data), "TMPDIR": str(tmp_path), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        runs.append(Run(process, root))
        return runs[-1]

    yield start
    for run in runs:
        with_all = [*run.family(), psutil.Process(run.process.pid)] if run.process.poll() is None else []
        for one in with_all:
            one.kill()


def ended(run: Run) -> tuple[RunResult | None, str]:
    said, _ = run.process.communicate(timeout=900)
    return read_result(run.root / "workspace"), said


def test_turns_and_all_at_once_end_with_the_same_record_and_one_process_did_all_turns(
    started: Callable[..., Run], tmp_path: Path
) -> None:
    results, holders = [], []
    for threads in (1, len(SITES)):
        run = started(threads)
        result, said = ended(run)
        assert run.process.returncode == 0, said
        assert result is not None
        assert result.completed
        results.append((_lasting(result.to_json()), state_hashes(run.folder.path)))
        locks = [Holder.read(run.folder.lock(site)) for site in SITES]
        holders.append({holder.pid for holder in locks if holder is not None})
    assert results[0] == results[1]
    assert [len(pids) for pids in holders] == [1, len(SITES)]
    assert list(tmp_path.glob("sitelora_*")) == []
    assert not any(map(psutil.pid_exists, holders[0]))


def test_a_killed_simulator_leaves_no_worker(started: Callable[..., Run], tmp_path: Path) -> None:
    run = started(1)
    worker = run.worker()
    simulator = worker.parent()
    assert simulator is not None
    before = simulator.children(recursive=True)
    assert worker in before
    simulator.kill()
    psutil.wait_procs(before, timeout=60)
    assert [one for one in before if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert list(tmp_path.glob("sitelora_*")) == []


def test_a_killed_worker_costs_one_answer_and_the_sites_go_on_without_it(started: Callable[..., Run]) -> None:
    run = started(1)
    worker = run.worker()
    worker.kill()
    result, said = ended(run)
    assert result is not None, said
    assert result.completed
    statuses = [sorted(entry.status for entry in each.sites.values()) for each in result.rounds]
    assert statuses == [["missing", "ok"], ["ok", "ok"]]
    (lost,) = [entry for entry in result.rounds[0].sites.values() if entry.status == "missing"]
    assert "failed: the site's own log says why" in lost.reason
    assert "the worker of this run has ended in the middle of the task" in said


def test_the_real_cause_of_a_failed_task_is_in_the_sites_own_logs_and_filters_see_tensors(
    started: Callable[..., Run], tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    listed = json.loads((data / "prostate" / "site-2" / "dataset.json").read_text())
    image = data / "prostate" / "site-2" / listed["training"][0]["image"]
    image.write_bytes(image.read_bytes()[:200])
    run = started(1, data=data, privacy=POLICY)
    result, _ = ended(run)
    assert result is not None
    errors = [event for event in run.events("site-2") if event["event"] == "error"]
    assert [event["code"] for event in errors] == ["data_unfit"]
    assert image.name in errors[0]["error"]
    logged = "".join(file.read_text() for file in (run.root / "workspace" / "site-2").rglob("error_log.txt"))
    assert image.name in logged
    assert "Traceback" in logged
    assert image.name not in json.dumps(result.to_json())
    passed = (run.folder.site("site-1") / "policy.jsonl").read_text().splitlines()
    assert {json.loads(line)["round"] for line in passed} == {-1, 0, 1}, "the filter imports torch, and gets tensors"


def test_code_that_a_job_brings_is_never_the_workers(started: Callable[..., Run], job_of: Jobs, tmp_path: Path) -> None:
    """NVFlare runs such code in the sites' processes, in its simulator as elsewhere where a site lets it."""
    job = job_of(tmp_path, sites=SITES, uid="run-1", rounds=1)
    for name in ("sitecustomize", "ignite"):  # what Python imports by itself, and what the worker imports of MONAI's
        (job.path / "app" / "custom" / f"{name}.py").write_text(WHO_IMPORTS)
    (job.path / "app" / "custom" / "job_filter.py").write_text(WHO_IMPORTS + JOB_FILTER)
    client = job.path / "app" / "config" / CLIENT_CONFIG
    config = json.loads(client.read_text())
    filters = {"tasks": list(TASKS), "filters": [{"path": "job_filter.Through", "args": {}}]}
    config["task_result_filters"].append(filters)
    client.write_text(json.dumps(config))
    seen = tmp_path / "who_imports.jsonl"
    run = started(1, job=job, WHO_IMPORTS=str(seen))
    result, said = ended(run)
    lines = [json.loads(line) for line in seen.read_text().splitlines()]
    assert any("simulator_worker" in " ".join(line) for line in lines), "NVFlare does run it, in sites' processes"
    assert [line for line in lines if WORKER in line] == []
    assert result is not None, said
    assert result.completed


def _lasting(value: Any) -> Any:
    """Return a record without what is another in every run."""
    if isinstance(value, dict):
        return {key: _lasting(one) for key, one in value.items() if key not in OF_THE_RUN_ALONE}
    return [_lasting(one) for one in value] if isinstance(value, list) else value
