"""What a server may have a site's own process do, in NVFlare's own agent: no shell, no other folder, no other job."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.fuel.f3.cellnet.core_cell import Message as CellMessage
from nvflare.fuel.sec.authz import AuthorizationService
from nvflare.private.admin_defs import Message
from nvflare.private.defs import RequestHeader, SysCommandTopic, TrainingTopic
from nvflare.private.fed.client.admin import FedAdminAgent
from nvflare.private.fed.client.client_req_processors import ClientRequestProcessors
from nvflare.security.security import FLAuthorizer

from sitelora.flare.job_judge import JobJudge
from sitelora.site_kit.site_files import template
from strict_site import JOB_ID, deploy

from hostile_jobs import honest_job  # isort: skip

OTHER = "11111111-1111-1111-1111-111111111111"
SHELL = ("cat", "head", "tail", "grep", "ls", "pwd")


class SiteProcess:
    """A site's own process: NVFlare's agent with its processors, and an engine that notes what is done."""

    def __init__(self, processors: list[Any]) -> None:
        self.agent = object.__new__(FedAdminAgent)
        self.agent.auditor, self.agent.processors, self.agent.app_ctx = None, {}, self
        self.running: list[str] = []
        for processor in processors:
            self.agent.register_processor(processor)

    @contextmanager
    def new_context(self) -> Iterator[FLContext]:
        yield FLContextManager(engine=self, identity_name="site-1").new_context()

    def fire_event(self, *_: object) -> None: ...

    def get_all_job_ids(self) -> list[str]:
        return self.running

    def told(self, topic: str, body: object = "", **headers: object) -> str:
        message = Message(topic=topic, body=body)
        for key, value in headers.items():
            message.set_header(key, value)
        return str(self.agent._dispatch_request(CellMessage(payload=message)).payload.body)


class Inner:
    """Stands for NVFlare's processor of one command: says that it was asked."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def get_topics(self) -> list[str]:
        return [self.topic]

    def process(self, req: Message, app_ctx: object) -> Message:
        return Message(topic="reply", body="done")


@pytest.fixture
def processors() -> Iterator[list[Any]]:
    """NVFlare's own list, as it is when a site starts, and as the judge leaves it."""
    before = list(ClientRequestProcessors.request_processors)
    JobJudge().handle_event(EventType.SYSTEM_BOOTSTRAP, FLContext())
    JobJudge().handle_event(EventType.SYSTEM_BOOTSTRAP, FLContext())
    yield ClientRequestProcessors.request_processors
    ClientRequestProcessors.request_processors[:] = before


@pytest.fixture
def site(processors: list[Any]) -> SiteProcess:
    process = SiteProcess(processors)
    for ruled in process.agent.processors.values():
        if ruled._inner.get_topics()[0] in (TrainingTopic.DEPLOY, TrainingTopic.START_JOB, TrainingTopic.DELETE_RUN):
            ruled._inner = Inner(ruled._inner.get_topics()[0])
    return process


def test_nothing_but_the_shell_is_gone(processors: list[Any]) -> None:
    topics = {topic for each in processors for topic in each.get_topics()}
    assert SysCommandTopic.SHELL not in topics
    assert {TrainingTopic.START_JOB, TrainingTopic.ABORT, SysCommandTopic.SYS_INFO} <= topics


@pytest.mark.parametrize("headers", [{}, {RequestHeader.USER_ROLE: "super", RequestHeader.REQUIRE_AUTHZ: "true"}])
def test_no_server_reads_a_file(site: SiteProcess, headers: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text('{"patient": "Ada"}')
    said = site.told(SysCommandTopic.SHELL, f"cat {file}", **{RequestHeader.ADMIN_COMMAND: "cat", **headers})
    assert "Ada" not in said
    assert "invalid_request" in said


def test_no_role_has_a_right_to_a_shell() -> None:
    """What the honest server of an installed site would pass on."""
    AuthorizationService.initialize(FLAuthorizer("site-1", json.loads(template("authorization.json"))))
    from nvflare.fuel.sec.authz import AuthzContext, Person

    nobody = Person(name="", org="", role="")
    for role in ("project_admin", "org_admin", "lead", "member"):
        for command in SHELL:
            for org in ("site-1", "coordinator"):
                user = Person(name="a", org=org, role=role)
                allowed, _ = AuthorizationService.authorize(AuthzContext(user=user, submitter=nobody, right=command))
                assert not allowed, (role, command, org)


@pytest.mark.parametrize(
    "name", ["local", "startup", "state", "", None, "../local", 7, JOB_ID.upper(), f"{{{JOB_ID}}}"]
)
@pytest.mark.parametrize("topic", [TrainingTopic.DELETE_RUN, TrainingTopic.DEPLOY, TrainingTopic.START_JOB])
def test_a_job_is_no_other_folder_of_the_kit(site: SiteProcess, topic: str, name: object) -> None:
    headers = {RequestHeader.JOB_ID: name, RequestHeader.JOB_META: {"job_id": name}}
    assert "expected a UUID" in site.told(topic, **headers)


@pytest.mark.parametrize("topic", [TrainingTopic.DEPLOY, TrainingTopic.START_JOB])
@pytest.mark.parametrize("meta", [{"job_id": OTHER}, {}, None, "x"])
def test_a_jobs_papers_are_its_own(site: SiteProcess, topic: str, meta: object) -> None:
    assert "papers of job" in site.told(topic, **{RequestHeader.JOB_ID: JOB_ID, RequestHeader.JOB_META: meta})
    own = {RequestHeader.JOB_ID: JOB_ID, RequestHeader.JOB_META: {"job_id": JOB_ID}}
    assert site.told(topic, **own) == "done"


@pytest.mark.parametrize("topic", [TrainingTopic.DEPLOY, TrainingTopic.DELETE_RUN])
def test_a_job_that_has_a_process_keeps_its_files(site: SiteProcess, topic: str) -> None:
    own = {RequestHeader.JOB_ID: JOB_ID, RequestHeader.JOB_META: {"job_id": JOB_ID}}
    site.running.append(JOB_ID)
    assert "abort it first" in site.told(topic, **own)
    site.running.clear()
    assert site.told(topic, **own) == "done"


def test_two_folders_of_one_job_are_refused(tmp_path: Path) -> None:
    """Without the rules on commands too: NVFlare starts the folder of its header, and judges see the papers'."""
    workspace = deploy(tmp_path / "kit", honest_job(tmp_path / "job" / "iat_prostate"))
    engine = SimpleNamespace(get_workspace=lambda: workspace)

    def reason() -> object:
        fl_ctx = FLContextManager(engine=engine, identity_name="site-1").new_context()
        fl_ctx.set_prop(FLContextKey.JOB_META, {"job_id": JOB_ID}, private=True, sticky=False)
        JobJudge().handle_event(EventType.BEFORE_JOB_LAUNCH, fl_ctx)
        launchers = fl_ctx.get_prop(FLContextKey.JOB_LAUNCHER)
        return launchers and launchers[0]._reasons

    assert reason() is None
    cut = tmp_path / "kit" / "22222222-2222-2222-2222-222222222222" / "meta.json"
    cut.parent.mkdir()
    cut.write_text('{"job_id": ')
    assert reason() is None, "what is cut is started by nobody"
    shutil.copytree(workspace.get_run_dir(JOB_ID), tmp_path / "kit" / OTHER)
    assert OTHER in str(reason())
