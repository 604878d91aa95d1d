"""Only what is there in full is a success."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sitelora.federation.job_folder import JobFolder
from sitelora.run_result import Round, RunResult, SiteRound
from sitelora.simulator.check_outcome import problems_of, read_result

Jobs = Callable[..., JobFolder]


def result_of(**changes: Any) -> RunResult:
    entries = {site: SiteRound(status="ok") for site in ("site-1", "site-2")}
    rounds = [Round(number=n, seconds=1.0, sites=entries) for n in range(2)]
    good: dict[str, Any] = {
        "completed": True,
        "rounds_done": 2,
        "rounds": rounds,
        "evaluation": {"site-1": {}, "site-2": {}},
    }
    return RunResult(**{**good, **changes})


def test_only_all_rounds_of_all_sites_with_clean_logs_are_a_success(job_of: Jobs, tmp_path: Path) -> None:
    job, workspace = job_of(tmp_path / "jobs"), tmp_path / "work"
    for who in ("server", "site-1"):
        (workspace / who).mkdir(parents=True)
        (workspace / who / "error_log.txt").write_text("")
    assert problems_of(job, result_of(), workspace, 0) == []

    assert "no result.json" in problems_of(job, None, workspace, 0)[0]
    assert problems_of(job, result_of(completed=False, error="disk full"), workspace, 0) == ["disk full"]
    assert "1 rounds were done, expected 2" in problems_of(job, result_of(rounds_done=1), workspace, 0)
    assert problems_of(job, result_of(evaluation={"site-1": {}}), workspace, 0) == ["no evaluation from site-2"]
    assert problems_of(job, result_of(), workspace, 2) == ["NVFlare's simulator ended with exit code 2"]
    first, second = result_of().rounds
    silent = SiteRound(status="missing", reason="no answer within 5 s")
    missing = result_of(rounds=[first, replace(second, sites={**second.sites, "site-2": silent})])
    assert problems_of(job, missing, workspace, 0) == ["round 2: site-2 missing: no answer within 5 s"]
    (workspace / "site-1" / "error_log.txt").write_text("line one\nValueError: bad image\n")
    (problem,) = problems_of(job, result_of(), workspace, 0)
    assert "site-1 logged errors" in problem
    assert "ValueError: bad image" in problem


def test_the_result_is_read_from_the_workspace_of_this_run(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    folder = tmp_path / "server" / "simulate_job"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"completed": true}')
    assert read_result(tmp_path) == RunResult(completed=True)
