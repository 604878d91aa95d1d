"""`sitelora run` at the desk: what it says of a job, and of a kit or a server that it cannot use."""

import json
import threading
from pathlib import Path

import pytest
from nvflare.lighter.utils import load_crt_chain_bytes

from sitelora.cli import main
from sitelora.flare import lead
from sitelora.flare.lead import Lead, LeadError, ServerAwayError, _within
from sitelora.flare.run_job import line_of

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
