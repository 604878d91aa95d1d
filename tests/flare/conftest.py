"""What the tests of the NVFlare layer share: real contexts over a real workspace, tiny data, a tiny job."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.workspace import Workspace
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from sitelora.federation.in_process import run_in_process
from sitelora.federation.job import JOB_FILE, Job
from sitelora.run_result import RunResult
from sitelora.simulator.check_outcome import read_result
from sitelora.simulator.processes import environment, simulator_command
from small_network import SMALL

BUNDLE = "iat_segmentation"
SITES = ("site-1", "site-2")
OVERRIDES: dict[str, Any] = {**SMALL, "slices": 3}


class Engine:
    """As much of NVFlare's engine as a component asks for outside a run: its workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get_workspace(self) -> Workspace:
        return self._workspace


@pytest.fixture(scope="session")
def overrides() -> dict[str, Any]:
    """Bundle values of a network that trains in a second."""
    return dict(OVERRIDES)


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., FLContext]:
    """Make contexts as NVFlare hands them to the components of one site."""

    def make(site: str = "site-1", *, simulated: bool = False, job: Job | None = None) -> FLContext:
        root = tmp_path / "workspaces" / site
        for folder in ("startup", "local"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        job_id = SimulatorConstants.JOB_NAME if simulated else "5a8bc6a5-b5ad-4cbf-a332-bb5463c73e12"
        if job is not None:
            config = Path(Workspace(str(root), site).get_app_config_dir(job_id))
            config.mkdir(parents=True, exist_ok=True)
            (config / JOB_FILE).write_text(json.dumps(job.to_json()), encoding="utf-8")
        manager = FLContextManager(engine=Engine(Workspace(str(root), site)), identity_name=site, job_id=job_id)
        fl_ctx = manager.new_context()
        if simulated:
            fl_ctx.set_prop(FLContextKey.SIMULATE_MODE, True, private=True, sticky=True)
        return fl_ctx

    return make


@pytest.fixture
def nvflare_simulator(tiny_data: Path, tmp_path: Path) -> Callable[[Path], tuple[int, RunResult | None]]:
    """Run a job folder in NVFlare's own simulator; give its exit code and its result.json, if there is one."""

    def run(job: Path) -> tuple[int, RunResult | None]:
        workspace = tmp_path / "workspace"
        command = simulator_command(job=job, workspace=workspace, threads=2)
        env = environment(home=tmp_path / "home", data=tiny_data)
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
        return done.returncode, read_result(workspace)

    return run


@pytest.fixture
def in_process_of(tiny_data: Path, tmp_path: Path) -> Callable[..., RunResult]:
    """Run the federation of a tiny job in this process: what NVFlare must end with, bit for bit."""

    def make(**arguments: Any) -> RunResult:
        values: dict[str, Any] = {
            "bundle": BUNDLE,
            "dataset": "prostate",
            "federation": "iat_prostate",
            "sites": SITES,
            "rounds": 2,
            "overrides": OVERRIDES,
            "uid": "run-1",
            "data": tiny_data,
            "home_folder": tmp_path / "home_in_process",
            **arguments,
        }
        return run_in_process(**values)

    return make
