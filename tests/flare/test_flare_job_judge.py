"""The judge of jobs in NVFlare's own hands: what it refuses is not started, and of it nothing is built."""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.job_launcher_spec import JobLauncherSpec
from nvflare.apis.utils.event import fire_event_to_components
from nvflare.apis.workspace import Workspace
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.fuel.common.excepts import ComponentNotAuthorized
from nvflare.private.fed.client.client_app_runner import ClientAppRunner
from nvflare.private.fed.client.client_json_config import ClientJsonConfigurator
from nvflare.private.fed.utils.fed_utils import authorize_build_component, get_job_launcher

from sitelora.flare.executor import SiteExecutor
from sitelora.flare.job_judge import JobJudge
from strict_site import JOB_ID, deploy

from hostile_jobs import HOSTILE, PAYLOAD, honest_job  # isort: skip

BY_NAME = {hostile.name: hostile for hostile in HOSTILE}
RUNS_CODE = ("process", "nested")
"""What NVFlare does run where nobody judges."""
BUILT = (
    *RUNS_CODE,
    "class_path",
    "stock sender",
    "below an allowed class",
    "result filter",
    "another bundle",
    "expression",
)
STARTED = ("sitecustomize", "decomposers", "custom folder", "an image to run", "another submitter", "no clip")


@pytest.fixture
def deployed(tmp_path: Path) -> Callable[[str], Workspace]:
    """Deploy a job at a strict site as NVFlare does; "" is the honest one."""

    def make(name: str) -> Workspace:
        hostile = BY_NAME.get(name)
        job = honest_job(tmp_path / "job" / "iat_prostate")
        if hostile is None:
            return deploy(tmp_path / "kit", job)
        hostile.change(job)
        return deploy(tmp_path / "kit", job, submitter=hostile.submitter)

    return make


def build(workspace: Workspace, *judges: FLComponent) -> ClientJsonConfigurator:
    """Build a site's part of a job as NVFlare's job process does."""
    app = workspace.get_app_dir(JOB_ID)
    args = argparse.Namespace(
        sp_scheme="grpc", sp_target="localhost:1", parent_url="grpc://localhost:1", set=[],
        job_id=JOB_ID, client_name="site-1", workspace=workspace.get_root_dir(),
    )  # fmt: skip
    fl_ctx = FLContext()
    ClientAppRunner._set_fl_context(fl_ctx, app, args, workspace, True)
    file = f"{app}/config/config_fed_client.json"
    conf = ClientJsonConfigurator(workspace_obj=workspace, config_file_name=file, app_root=app, args=args, kv_list=[])
    conf.set_component_build_authorizer(authorize_build_component, fl_ctx=fl_ctx, event_handlers=list(judges))
    conf.configure()
    return conf


def payload(tmp_path: Path, *, patience_s: float) -> list[Path]:
    """What code of a job has left; a process needs a moment for it."""
    began = time.monotonic()
    while not (found := list(tmp_path.rglob(PAYLOAD))) and time.monotonic() - began < patience_s:
        time.sleep(0.05)
    return found


def test_the_honest_job_is_built(deployed: Callable[[str], Workspace]) -> None:
    built = build(deployed(""), JobJudge())
    assert [type(one.executor) for one in built.executors] == [SiteExecutor]


@pytest.mark.parametrize("name", RUNS_CODE)
def test_without_the_judge_the_attack_is_one(name: str, deployed: Callable[[str], Workspace], tmp_path: Path) -> None:
    build(deployed(name))
    assert payload(tmp_path, patience_s=60)


@pytest.mark.parametrize("name", BUILT)
def test_of_a_hostile_job_nothing_is_built(name: str, deployed: Callable[[str], Workspace], tmp_path: Path) -> None:
    with pytest.raises(ComponentNotAuthorized, match=r"this site's policy \(strict\) refuses the job: "):
        build(deployed(name), JobJudge())
    assert not payload(tmp_path, patience_s=0.2)


class Engine:
    """As much of a site's engine as starting a job asks for: contexts and events."""

    def __init__(self, workspace: Workspace, handlers: list[FLComponent]) -> None:
        self._workspace, self._handlers = workspace, handlers

    def get_workspace(self) -> Workspace:
        return self._workspace

    @contextmanager
    def new_context(self) -> Any:
        yield FLContextManager(engine=self, identity_name="site-1").new_context()

    def fire_event(self, event: str, fl_ctx: FLContext) -> None:
        assert event == EventType.BEFORE_JOB_LAUNCH
        fire_event_to_components(event, self._handlers, fl_ctx)


def launcher(workspace: Workspace, *, judge_first: bool) -> JobLauncherSpec:
    """What NVFlare would start a job with at a site that has its own launcher and the judge."""
    handlers: list[FLComponent] = [ClientProcessJobLauncher(), JobJudge()]
    engine = Engine(workspace, handlers[::-1] if judge_first else handlers)
    meta = json.loads(Path(workspace.get_job_meta_path(JOB_ID)).read_text(encoding="utf-8"))
    with engine.new_context() as fl_ctx:
        fl_ctx.set_prop(FLContextKey.WORKSPACE_OBJECT, workspace, private=True)
        return get_job_launcher(meta, fl_ctx)


@pytest.mark.parametrize("judge_first", [False, True])
def test_an_honest_job_is_started_by_the_sites_launcher(
    judge_first: bool, deployed: Callable[[str], Workspace]
) -> None:
    assert isinstance(launcher(deployed(""), judge_first=judge_first), ClientProcessJobLauncher)


@pytest.mark.parametrize("judge_first", [False, True])
@pytest.mark.parametrize("name", STARTED)
def test_for_a_hostile_job_no_process_is_started(
    name: str, judge_first: bool, deployed: Callable[[str], Workspace]
) -> None:
    with pytest.raises(RuntimeError, match=r"refuses the job|Exactly one job launcher"):
        launcher(deployed(name), judge_first=judge_first).launch_job({}, FLContext())


def test_what_cannot_be_judged_is_refused(deployed: Callable[[str], Workspace]) -> None:
    workspace = deployed("")
    (Path(workspace.get_site_config_dir()) / "sitelora.json").write_text('{"policy": {"level": "stric"}}')
    with pytest.raises(ComponentNotAuthorized, match=r"could not judge it: .*did you mean 'strict'"):
        build(workspace, JobJudge())
