"""A site's own policy in the executor, which is what acts: no task of a hostile job or server is done beyond it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from sitelora.federation.audit_report import audit_report
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.task_names import BEGIN, EVALUATE, TRAIN
from sitelora.federation.ticket import Ticket
from sitelora.flare.executor import SiteExecutor
from sitelora.flare.protocol import task_model
from sitelora.sharing.accounting import same_noise
from sitelora.sharing.audit import audit_entries, verify_audit
from sitelora.sharing.wire import packet_sha256
from small_network import SMALL
from strict_site import JOB_ID, deploy

from hostile_jobs import HOSTILE, PAYLOAD, honest_job  # isort: skip

BY_NAME = {hostile.name: hostile for hostile in HOSTILE}
EXECUTED = (
    *("expression", "target", "another bundle", "another federation", "another method", "no clip", "site code"),
    *("stock sender", "result filter", "another submitter"),
)
SETTINGS = {**SMALL, "slices": 3}


class Engine:
    """As much of NVFlare's engine as the executor asks for: its workspace."""

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace

    def get_workspace(self) -> Any:
        return self._workspace


@pytest.fixture
def site(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FLContext]:
    """Give the context of a strict site with a job deployed."""
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))
    monkeypatch.chdir(tmp_path)

    def make(name: str = "", *, says: dict[str, Any] | None = None, **policy: Any) -> FLContext:
        hostile = BY_NAME.get(name)
        job = honest_job(tmp_path / "job" / "iat_prostate", **{"settings": SETTINGS, "rounds": 3, **(says or {})})
        if hostile is not None:
            hostile.change(job)
            policy["submitter"] = hostile.submitter
        workspace = deploy(tmp_path / "kit", job, **policy)
        return FLContextManager(engine=Engine(workspace), identity_name="site-1", job_id=JOB_ID).new_context()

    return make


def task(number: int, packet: dict[str, torch.Tensor] | None = None, **ids: str) -> Shareable:
    ticket = Ticket(**{"federation": "iat_prostate", "uid": "run-1", "round_number": number, **ids})
    return FLModelUtils.to_shareable(task_model(ticket, packet or {}))


def ask(executor: SiteExecutor, fl_ctx: FLContext, what: str, shareable: Shareable) -> tuple[dict[str, Any], str]:
    """Return the tensors and the code of an answer."""
    model = FLModelUtils.from_shareable(executor.execute(what, shareable, fl_ctx, Signal()))
    return model.params, model.meta.get("error", "")


@pytest.mark.parametrize("name", EXECUTED)
def test_a_hostile_job_gets_a_code_and_nothing_is_done(
    name: str, site: Callable[..., FLContext], tmp_path: Path
) -> None:
    fl_ctx = site(name)
    for what, number in ((BEGIN, BEGIN_ROUND), (TRAIN, 0)):
        ids = {"federation": "other"} if name == "another federation" else {}
        assert ask(SiteExecutor(), fl_ctx, what, task(number, **ids)) in (
            ({}, "policy_refused"),
            ({}, "settings_refused"),
        )
    assert not list(tmp_path.rglob(PAYLOAD))
    assert not list(tmp_path.rglob("audit.jsonl"))
    assert not list(tmp_path.rglob("round_*"))


def test_what_a_server_may_ask_of_a_strict_site(site: Callable[..., FLContext], tmp_path: Path) -> None:
    """One honest round, and around it everything that a server could ask beside; each tensor has its line."""
    fl_ctx, executor = site(most_answers=4, most_runs=1), SiteExecutor()
    run = RunFolder(tmp_path / "home" / "iat_prostate" / "run-1")
    sent: list[dict[str, torch.Tensor]] = []

    def refused(what: str, shareable: Shareable) -> str:
        tensors, code = ask(executor, fl_ctx, what, shareable)
        assert tensors == {}
        return code

    initial, code = ask(executor, fl_ctx, BEGIN, task(BEGIN_ROUND))
    assert (bool(initial), code) == (True, "")
    sent.append(initial)
    assert refused(TRAIN, task(BEGIN_ROUND, initial)) == "turn_refused"
    assert refused(TRAIN, task(1, initial)) == "turn_refused"  # round 0 is next
    assert refused(TRAIN, task(10**6, initial)) == "turn_refused"
    assert refused(EVALUATE, task(0, initial)) == "turn_refused"
    assert refused("validate", task(0, initial)) == "turn_refused"
    assert refused(TRAIN, task(0, {**initial, "@delta/0/x.B": torch.ones(20_000, 2)})) == "message_refused"
    for _ in range(2):  # one run is all that is allowed, however often another one is asked for
        assert refused(BEGIN, task(BEGIN_ROUND, uid="run-2")) == "turn_refused"
        assert ask(SiteExecutor(), fl_ctx, BEGIN, task(BEGIN_ROUND, uid="run-2")) == ({}, "policy_refused")
    update, code = ask(executor, fl_ctx, TRAIN, task(0, initial))
    assert (bool(update), code) == (True, "")
    sent.append(update)
    other = {name: tensor + 1 for name, tensor in initial.items()}
    assert refused(TRAIN, task(0, other)) == "turn_refused"  # the same round from another message
    again, _ = ask(executor, fl_ctx, TRAIN, task(0, initial))
    assert packet_sha256(again) == packet_sha256(update)
    sent.append(again)
    assert refused(TRAIN, task(2, initial)) == "turn_refused"  # round 1 is next
    sent.append(ask(SiteExecutor(), fl_ctx, BEGIN, task(BEGIN_ROUND))[0])  # the run is resumed
    assert refused(TRAIN, task(0, initial)) == "policy_refused"  # the fifth answer of this run
    log = run.site("site-1") / "audit.jsonl"
    assert verify_audit(log, (tmp_path / "home" / "secret").read_bytes()) == []
    assert len(audit_entries(log)) == sum(map(len, sent)) > 0
    report = audit_report(run, "site-1", secret=(tmp_path / "home" / "secret").read_bytes())
    assert report.problems == []
    assert [one.packet_sha256 for one in report.answers] == [packet_sha256(packet) for packet in sent]
    assert report.notes == ["the run was begun 2 times: it was resumed", "round 0 was sent 2 times"]


def test_a_job_has_one_run_and_writes_nowhere_else(site: Callable[..., FLContext], tmp_path: Path) -> None:
    """Every uid has its own count of answers; and what a task of another run is refused for is none of that run's."""
    fl_ctx, executor = site(most_runs=None), SiteExecutor()
    assert ask(executor, fl_ctx, BEGIN, task(BEGIN_ROUND))[1] == ""
    before = sorted((tmp_path / "home").rglob("*"))
    for number in range(3):
        assert ask(executor, fl_ctx, BEGIN, task(BEGIN_ROUND, uid=f"other-{number}")) == ({}, "turn_refused")
        strange = task(BEGIN_ROUND, federation=f"study-{number}")
        assert ask(executor, fl_ctx, BEGIN, strange) == ({}, "turn_refused")
    assert sorted((tmp_path / "home").rglob("*")) == before
    assert ask(executor, fl_ctx, BEGIN, task(BEGIN_ROUND))[1] == "", "its own goes on"


@pytest.mark.parametrize(("bound", "told"), [("largest_norm", "norm of the update"), ("most_bytes", "bytes, allowed")])
def test_an_answer_beyond_a_bound_does_not_leave_and_has_no_line(
    bound: str, told: str, site: Callable[..., FLContext], tmp_path: Path
) -> None:
    fl_ctx = site(**{bound: 0})
    tensors, code = ask(SiteExecutor(), fl_ctx, BEGIN, task(BEGIN_ROUND))
    if bound == "largest_norm":  # the site's own initial values are no update
        assert code == ""
        tensors, code = ask(SiteExecutor(), fl_ctx, TRAIN, task(0, tensors))
    assert (tensors, code) == ({}, "policy_refused")
    folder = tmp_path / "home" / "iat_prostate" / "run-1" / "site-1"
    assert told in json.loads((folder / "events.jsonl").read_text().splitlines()[-1])["error"]
    assert {entry["round"] for entry in audit_entries(folder / "audit.jsonl")} <= {BEGIN_ROUND}


def test_scores_that_the_job_does_not_plan_are_not_given(site: Callable[..., FLContext], tmp_path: Path) -> None:
    fl_ctx = site()
    workspace = fl_ctx.get_engine().get_workspace()
    file = Path(workspace.get_app_config_dir(JOB_ID)) / "sitelora.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "evaluate": False}))
    assert ask(SiteExecutor(), fl_ctx, EVALUATE, task(0)) == ({}, "turn_refused")


def test_a_budget_of_epsilon_ends_a_run_by_name_and_no_new_run_begins_it_anew(
    site: Callable[..., FLContext], tmp_path: Path
) -> None:
    noise = {"noise_std": 2.0}
    fl_ctx, executor = site(says=noise, max_epsilon=same_noise(2.0, 1)), SiteExecutor()
    initial, _ = ask(executor, fl_ctx, BEGIN, task(BEGIN_ROUND))
    update, code = ask(executor, fl_ctx, TRAIN, task(0, initial))
    assert (bool(update), code) == (True, "")
    assert ask(executor, fl_ctx, TRAIN, task(1, initial)) == ({}, "epsilon_spent")
    events = tmp_path / "home" / "iat_prostate" / "run-1" / "site-1" / "events.jsonl"
    told = json.loads(events.read_text().splitlines()[-1])["error"]
    assert "max_epsilon: round 1 would be release 2 that was made of the data set 'prostate'" in told
    resumed = SiteExecutor()
    ask(resumed, fl_ctx, BEGIN, task(BEGIN_ROUND))
    assert ask(resumed, fl_ctx, TRAIN, task(1, initial)) == ({}, "epsilon_spent")
    other = SiteExecutor()
    ask(other, fl_ctx, BEGIN, task(BEGIN_ROUND, uid="run-2"))
    assert ask(other, fl_ctx, TRAIN, task(0, initial, uid="run-2")) == ({}, "epsilon_spent")
    logged = audit_entries(events.with_name("audit.jsonl"))
    assert {entry["round"] for entry in logged} == {BEGIN_ROUND, 0}


@pytest.mark.parametrize("noise", [0.0005, 0.5])
def test_a_job_whose_noise_is_too_small_for_a_budget_is_not_even_begun(
    noise: float, site: Callable[..., FLContext], tmp_path: Path
) -> None:
    fl_ctx = site(says={"noise_std": noise}, max_epsilon=5.0)
    assert ask(SiteExecutor(), fl_ctx, BEGIN, task(BEGIN_ROUND)) == ({}, "policy_refused")
    assert not list(tmp_path.rglob("audit.jsonl"))
