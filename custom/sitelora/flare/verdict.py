"""Did a simulated run do what it was to do? Checked positively, because NVFlare exits with 0 when nothing trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitelora.federation.run_folder import RESULT, SERVER
from sitelora.flare.job_folder import JobFolder

_TAIL = 12


def read_result(workspace: Path) -> dict[str, Any] | None:
    """Return the ``result.json`` of the run that last had this workspace, which is emptied before every run."""
    path = workspace / SERVER / "simulate_job" / RESULT
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def problems_of(job: JobFolder, result: Mapping[str, Any] | None, workspace: Path, returncode: int | None) -> list[str]:
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


def _result_problems(job: JobFolder, result: Mapping[str, Any]) -> list[str]:
    if not result.get("completed"):
        return [str(result.get("error") or "the run was not completed")]
    problems = []
    rounds = [entry for entry in result["rounds"] if "seconds" in entry]
    if len(rounds) != job.rounds:
        problems.append(f"{len(rounds)} rounds were done, expected {job.rounds}")
    for entry in rounds:
        for site in job.sites:
            found = entry["sites"].get(site, {"status": "missing", "reason": "never heard of"})
            if found["status"] != "ok":
                problems.append(f"round {entry['round'] + 1}: {site} {found['status']}: {found['reason']}")
    if job.evaluates:
        silent = [site for site in job.sites if site not in result["evaluation"]]
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
