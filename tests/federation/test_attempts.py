"""What an ended job means: only a record that says so is success, and only a death is gone on with."""

from dataclasses import replace
from typing import Any

import pytest

from sitelora.federation.attempts import AGAIN, DONE, OVER, Ended, needs_the_other_way, next_attempt, verdict_on
from sitelora.federation.job import Job
from sitelora.run_result import RunResult

JOB = Job(bundle="b", dataset="d", federation="f", sites=("site-1", "site-2"), rounds=3, uid="run-1")
DEAD, ABORTED = "FINISHED:EXECUTION_EXCEPTION", "FINISHED:ABORTED"


def ended(result: RunResult | None = None, **more: Any) -> Ended:
    return Ended(**{"status": DEAD, "result": result, "begun": True, "meta": {}, **more})


@pytest.mark.parametrize(
    ("what", "how"),
    [
        (DONE, ended(RunResult(completed=True, rounds_done=3, uid="run-1"), status="FINISHED:COMPLETED")),
        (DONE, ended(RunResult(completed=True, rounds_done=3, lost=["site-2"], uid="run-1"))),
        (AGAIN, ended(RunResult(error="no word from site-2", lost=["site-2"], uid="run-1"))),
        (AGAIN, ended(RunResult(error="site-2: disk_full", short=["site-2"], uid="run-1"))),
        (AGAIN, ended()),
        (AGAIN, ended(begun=False, restarted=True, status="RUNNING")),
        (OVER, ended(RunResult(error="all updates were rejected", uid="run-1"))),
        (OVER, ended(status=ABORTED)),
        (OVER, ended(RunResult(error="stopped on request", uid="run-1"), status=ABORTED)),
        (OVER, ended(begun=False, status="FINISHED:CAN_NOT_SCHEDULE")),
        (OVER, ended(RunResult(), begun=False, status="FINISHED:COMPLETED")),
    ],
)
def test_a_death_is_gone_on_with_and_nothing_else(what: str, how: Ended) -> None:
    assert verdict_on(how).what == what


def test_a_job_that_never_began_says_what_nvflare_noted() -> None:
    notes = {
        "schedule_history": ["old", "not enough sites: 1 of 2"],
        "job_deploy_detail": ["site-1: OK", "site-2: not authorized"],
    }
    why = verdict_on(ended(begun=False, status="FINISHED:CAN_NOT_SCHEDULE", meta=notes)).why
    assert "CAN_NOT_SCHEDULE" in why
    assert "not enough sites: 1 of 2" in why
    assert "site-2: not authorized" in why
    assert "site-1" not in why


def test_the_next_attempt_has_the_same_uid_and_resumes_what_has_begun() -> None:
    assert next_attempt(JOB, ended()) == replace(JOB, resume=True)
    assert next_attempt(JOB, ended(begun=False, restarted=True)) == JOB
    assert next_attempt(JOB, ended(RunResult(uid="run-1", lost=["site-2"]), begun=False)).resume


def test_a_server_that_did_not_even_open_the_run_found_its_folder_otherwise() -> None:
    assert needs_the_other_way(JOB, ended(RunResult(error="there is nothing to resume", federation="f")))
    assert not needs_the_other_way(JOB, ended(RunResult(error="too few updates", federation="f", uid="run-1")))
    assert not needs_the_other_way(JOB, ended())
