"""`sitelora run` at the desk: what it says of a job, and of a kit or a server that it cannot use."""

import json
import threading
from pathlib import Path

import pytest
from nvflare.lighter.utils import load_crt_chain_bytes

from sitelora.cli import main
from sitelora.federation.job import Job
from sitelora.federation.job_folder import JobFolder
from sitelora.flare import lead, run_job
from sitelora.flare.lead import Lead, LeadError, ServerAwayError, _within
from sitelora.flare.run_job import line_of
from sitelora.run_result import RunResult

AT_WORK = {"begun": True, "doing": "update", "rounds_done": 1, "rounds": 3, "waits_for": ["site-2"], "silent": []}


@pytest.mark.parametrize(
    ("status", "standing", "line"),
    [
        ("SUBMITTED", {}, "submitted, not started yet: 2 of 3 sites"),
        ("RUNNING", {}, "running: the sites' processes start"),
        ("RUNNING", {**AT_WORK, "begun": False}, "the sites check their data, waiting for site-2"),
        ("RUNNING", AT_WORK, "1 of 3 rounds written, waiting for site-2"),
        (
            "RUNNING",
            {**AT_WORK, "silent": ["site-2"]},
            "1 of 3 rounds written, waiting for site-2; no sign of life from site-2",
        ),
        (
            "RUNNING",
            {**AT_WORK, "doing": "evaluated", "waits_for": []},
            "all 3 rounds are written, the models are scored",
        ),
    ],
)
def test_a_line_says_where_a_job_stands(status: str, standing: dict, line: str) -> None:
    assert line_of(status, standing, {"schedule_history": ["1 of 3 sites", "2 of 3 sites"]}) == line


def test_no_kit_and_a_sites_kit_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LeadError, match="is no startup kit; expected the kit of a lead"):
        Lead(tmp_path)
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "fed_client.json").write_text("{}")
    with pytest.raises(LeadError, match="is the kit of a site or a server; expected the kit of a lead"):
        Lead(tmp_path)


def test_the_command_refuses_at_the_desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "iat_prostate", "--kit", str(tmp_path / "none")]) == 2
    assert "no startup kit" in capsys.readouterr().err
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "fed_admin.json").write_text(json.dumps({"admin": {"username": "lead@x"}}))
    assert main(["run", "iat_prostat", "--kit", str(tmp_path)]) == 2
    assert "did you mean iat_prostate" in capsys.readouterr().err.replace("'", "")
    assert main(["run", "iat_prostate", "--kit", str(tmp_path), "--resume"]) == 2
    assert "resume is true without a uid" in capsys.readouterr().err


def test_a_server_that_never_answers_is_given_up() -> None:
    assert _within(30, lambda: 7) == 7
    with pytest.raises(KeyError, match="x"):
        _within(30, lambda: {}["x"])
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        _within(0.1, threading.Event().wait)


def test_a_server_that_answers_without_its_certificate_is_one_that_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What NVFlare's authenticator does with the answer of a server that is just starting."""
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup" / "fed_admin.json").write_text(json.dumps({"admin": {"username": "lead@a.example"}}))
    monkeypatch.setattr(lead, "new_secure_session", lambda *_, **__: load_crt_chain_bytes(None))
    with pytest.raises(ServerAwayError, match="answered without its certificate"):
        Lead(tmp_path).connected()


class Desk:
    """A server at which every job has ended when it is first looked at, with the results that the test gives."""

    def __init__(self, *results: RunResult) -> None:
        self.results = list(results)
        self.jobs: list[Job] = []

    def submit(self, folder: Path, token: str) -> str:
        self.jobs.append(JobFolder.read(folder).job)
        return str(len(self.jobs))

    def download(self, job_id: str, out: Path) -> Path:
        folder = out / job_id
        (folder / "workspace").mkdir(parents=True)
        result = self.results[int(job_id) - 1]
        (folder / "workspace" / "result.json").write_text(json.dumps(result.to_json()))
        return folder

    def meta(self, job_id: str) -> dict[str, str]:
        return {"status": "FINISHED:COMPLETED"}

    def server_started(self) -> float:
        return 1.0

    def connected(self) -> set[str]:
        return {"site-1", "site-2"}

    def at_work(self) -> set[str]:
        return set()


@pytest.mark.parametrize("code", ["disk_full", "out_of_memory"])
def test_a_site_that_ran_out_of_something_is_asked_again_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    for name in ("PAUSE_S", "SETTLE_S", "LOOK_S"):
        monkeypatch.setattr(run_job, name, 0.0)
    job = Job(bundle="b", dataset="d", federation="f", sites=("site-1", "site-2"), rounds=3, uid="u")
    short = RunResult(error=f"round 2: site-2 missing: site-2: {code}", short=["site-2"], uid="u", rounds_done=1)
    unscored = f"evaluation: site-2 missing: site-2: {code}"
    done = RunResult(completed=True, rounds_done=3, uid="u", warnings=["resumed: something else", unscored])
    told: list[str] = []
    for results, completed in (((short, done), True), ((short, short, short), False)):
        desk = Desk(*results)
        out = tmp_path / str(completed)
        one = run_job.JobRun(desk, job, marker=False, out=out, retries=2, patience_s=9, tell=told.append)  # type: ignore[arg-type]
        outcome = one.run()
        assert outcome.completed is completed
        assert outcome.attempts == len(results)
        assert [each.resume for each in desk.jobs] == [False, *[True] * (len(results) - 1)]
    assert told.count(unscored) == 1
    assert "resumed: something else" not in told
    assert code in outcome.why
    assert "given up after 3 attempts" in outcome.why
    assert f"ended: round 2: site-2 missing: site-2: {code}" in told
    assert "asking again in 0 s: memory or disk may be free at site-2 by then" in told
