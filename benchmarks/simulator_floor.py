"""What `nvflare simulator JOB` without a flag costs beside NVFlare's own floor: the same tasks with an empty executor.

    python benchmarks/simulator_floor.py                                    # the goal: jobs/iat_prostate as it is
    python benchmarks/simulator_floor.py --rounds 1 --epochs 1 --size 48 --out small.json   # a look in minutes
    python benchmarks/simulator_floor.py --before ../another_checkout       # beside another checkout, in turn

Writes `results/simulator.json`. NVFlare then runs one thread and starts a process for every task of every site. A run's
own work is what its sites say in their event logs: seconds of training and of scoring. The goal (issue 15): at most the
floor, plus 1.2 times that work. Every run has a home of its own, so the phantom is drawn in it, as at the first time.
Where it is shorter than the job says (`--rounds`, `--epochs`, `--size`), that stands in the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from sitelora.comparison.run import commit
from sitelora.federation.job import Job
from sitelora.federation.job_folder import JobFolder
from sitelora.federation.machine import hardware, versions
from sitelora.federation.task_names import BEGIN, EVALUATE, TRAIN
from sitelora.run_result import RunResult

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "simulator.json"
SIMULATOR = [sys.executable, "-m", "nvflare.cli", "simulator"]
EMPTY = '''
from nvflare.apis.executor import Executor
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.workflows.model_controller import ModelController


class Empty(Executor):
    """Does nothing and says so."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        return FLModelUtils.to_shareable(FLModel(params={}))


class Waves(ModelController):
    """Asks every site for nothing, some times."""

    def __init__(self, waves=1):
        super().__init__(persistor_id="", allow_empty_global_weights=True)
        self.waves = waves

    def run(self):
        for wave in range(self.waves):
            self.send_model_and_wait(targets=None, data=FLModel(params={}, current_round=wave))
'''


def empty_job(folder: Path, sites: tuple[str, ...], waves: int) -> Path:
    """Write a job whose executor does nothing, with the waits of ours."""
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    (folder / "app" / "custom").mkdir()
    (folder / "app" / "custom" / "empty_run.py").write_text(EMPTY, encoding="utf-8")
    meta = {"name": folder.name, "min_clients": 1, "resource_spec": {}, "deploy_map": {"app": ["server", *sites]}}
    executor = {"tasks": ["*"], "executor": {"path": "empty_run.Empty", "args": {}}}
    workflow = {"id": "waves", "path": "empty_run.Waves", "args": {"waves": waves}}
    server = {"format_version": 2, "workflows": [workflow], "server": {"task_request_interval": 0.5}}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    (config / "config_fed_client.json").write_text(json.dumps({"format_version": 2, "executors": [executor]}))
    (config / "config_fed_server.json").write_text(json.dumps(server))
    return folder


def simulated(job: Path, place: Path, checkout: Path) -> dict[str, Any]:
    """Run a job in NVFlare's simulator, and return its seconds, its memory and what it left behind."""
    place.mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout / "custom"), "SITELORA_HOME": str(place / "home")}
    environment.pop("SITELORA_DATA", None)
    began, family, peak = time.monotonic(), {}, 0
    with (place / "simulator.log").open("wb") as log:
        command = [*SIMULATOR, str(job), "-w", str(place / "workspace")]
        run = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while run.poll() is None:
            held = 0
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
                    family[one.pid] = one
                    held += one.memory_info().rss
            peak = max(peak, held)
            time.sleep(0.5)
    wall = time.monotonic() - began
    left = [one for one in family.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    return {
        "wall_s": round(wall, 1),
        "peak_rss_mb": round(peak / 1e6),
        "exit_code": run.returncode,
        "processes_left": len(left),
        "processes_seen": len(family),
    }


def work_of(home: Path) -> dict[str, float]:
    """Return the seconds that the sites of a run say they were at work, by task, and that the first look cost."""
    seconds = dict.fromkeys((BEGIN, TRAIN, EVALUATE), 0.0)
    for file in home.glob("*/*/site-*/events.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "task_finished":
                seconds[event["task"]] += event["seconds"]
    return {f"{task}_s": round(value, 1) for task, value in seconds.items()}


def measured(job: Job, folder: Path, place: Path, checkout: Path) -> dict[str, Any]:
    """Run a federation, and return what it cost and what its sites worked."""
    found = simulated(folder, place, checkout)
    written = list((place / "workspace").glob("server/simulate_job/result.json"))
    result = RunResult.if_readable(written[0]) if written else None
    done = result is not None and result.completed and result.rounds_done == job.rounds
    if not done:
        raise SystemExit(f"the run of {checkout} was not completed: see {place / 'simulator.log'}")
    assert result is not None
    return {**found, **work_of(place / "home"), "fingerprint": result.fingerprint}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=HERE.parent / "jobs" / "iat_prostate")
    parser.add_argument("--rounds", type=int, help="instead of the job's")
    parser.add_argument("--epochs", type=int, help="instead of the job's")
    parser.add_argument("--size", type=int, help="pixels of a side, instead of the job's")
    parser.add_argument("--sites", type=int, help="only so many of the job's")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    source = JobFolder.read(asked.job)
    changes = {"epochs": asked.epochs, "image_size": asked.size}
    changes = {key: value for key, value in changes.items() if value is not None}
    sites = source.sites[: asked.sites] if asked.sites else source.sites
    job = replace(source.job, rounds=asked.rounds or source.rounds, settings={**source.job.settings, **changes})
    job = replace(job, sites=sites, min_sites=min(job.min_sites, len(sites)))
    waves = job.rounds + 1 + int(job.evaluate)
    here = HERE.parent
    checkouts = {"after": here} if asked.before is None else {"before": asked.before.resolve(), "after": here}
    with tempfile.TemporaryDirectory(prefix="sitelora_floor_") as name:
        root = Path(name)
        folder = JobFolder.write(job, root / "job" / job.federation, marker=True).path
        floor = simulated(empty_job(root / "job" / "empty", sites, waves), root / "empty", here)
        runs = {key: measured(job, folder, root / key, checkout) for key, checkout in checkouts.items()}
    work = runs["after"][f"{TRAIN}_s"] + runs["after"][f"{EVALUATE}_s"]
    goal = floor["wall_s"] + 1.2 * work
    result = {
        "commits": {key: commit(checkout) for key, checkout in checkouts.items()},
        "hardware": hardware(),
        "versions": versions(),
        "load_average": os.getloadavg()[0],
        "job": asked.job.name,
        "sites": len(sites),
        "rounds": job.rounds,
        "waves": waves,
        "changed": changes,
        "as_the_job_is": not changes and job == source.job,
        "floor": floor,
        **runs,
        "goal_s": round(goal, 1),
        "goal_reached": runs["after"]["wall_s"] <= goal,
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("floor", *runs, "goal_s", "goal_reached")}, indent=1))


if __name__ == "__main__":
    main()
