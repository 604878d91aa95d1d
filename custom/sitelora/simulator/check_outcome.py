"""Did a simulated run do what it was to do? Checked positively, because NVFlare exits with 0 when nothing trained."""

from __future__ import annotations

from pathlib import Path

from sitelora.federation.job_folder import JobFolder
from sitelora.federation.run_folder import RESULT, SERVER
from sitelora.run_result import OK, RunResult, SiteRound

_TAIL = 12


def read_result(workspace: Path) -> RunResult | None:
    """Return the ``result.json`` of the run that last had this workspace, which is emptied before every run."""
    return RunResult.if_readable(workspace / SERVER / "simulate_job" / RESULT)


def problems_of(job: JobFolder, result: RunResult | None, workspace: Path, returncode: int | None) -> list[str]:
    """Return everything that keeps a run from being a success, each readable by itself; none means success."""
    problems: list[str] = []
    if result is None:
        problems.append("the server wrote no result.json: the run never began, or did not come to its end")
    else:
        problems += _result_problems(job, result)
    problems += error_tails(workspace)
    if returncode:
        problems.append(f"NVFlare's simulator ended with exit code {returncode}")
    return problems


def _result_problems(job: JobFolder, result: RunResult) -> list[str]:
    if not result.completed:
        return [result.error or "the run was not completed"]
    problems = []
    if result.rounds_done != job.rounds:
        problems.append(f"{result.rounds_done} rounds were done, expected {job.rounds}")
    for each in result.rounds:
        for site in job.sites:
            found = each.sites.get(site, SiteRound(status="missing", reason="never heard of"))
            if found.status != OK:
                problems.append(f"round {each.counted}: {site} {found.status}: {found.reason}")
    if job.evaluates:
        silent = [site for site in job.sites if site not in result.evaluation]
        problems += [f"no evaluation from {site}" for site in silent]
    return problems


def error_tails(workspace: Path) -> list[str]:
    """Return the end of every error log that is not empty, with whose it is."""
    tails = []
    for path in sorted(workspace.rglob("error_log.txt")):
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        if text:
            who = path.relative_to(workspace).parts[0]
            end = "\n".join(f"    {line}" for line in text.splitlines()[-_TAIL:])
            tails.append(f"{who} logged errors ({path}):\n{end}")
    return tails
