"""Which run a simulation is: a new one, one that was stopped and is asked for again, or one that is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sitelora.federation.files import json_if_readable, make_private, saying
from sitelora.federation.identity import new_uid
from sitelora.federation.job_folder import JobFolder
from sitelora.federation.run_folder import SERVER, RunFolder, runs_in
from sitelora.federation.run_lock import require_idle, working
from sitelora.home import home as default_home
from sitelora.names import checked_name
from sitelora.run_result import RunResult
from sitelora.simulator.judge_settings import judged_values
from sitelora.simulator.processes import environment

_TAKEN_APART = re.compile(r"[\s'\"#\\]")
_OURS = {"local", "startup", SERVER}


class SimulationError(RuntimeError):
    """A simulation cannot begin; nothing was touched."""


@dataclass(frozen=True, kw_only=True)
class ChosenRun:
    """A run that was decided on: which, where, and whether it goes on."""

    job: JobFolder
    folder: Path
    workspace: Path
    uid: str
    resume: bool
    env: Mapping[str, str] = field(repr=False)
    request: str
    found: bool


def last_unfinished(home: Path, federation: str) -> str | None:
    """Return the uid of the run of a federation that was worked on last and is not completed, or None."""
    found = [
        (max(path.stat().st_mtime for path in (run.server, *run.server.iterdir())), run.uid)
        for run in runs_in(home, federation)
        if run.server.is_dir() and not (RunResult.if_readable(run.result) or RunResult()).completed
    ]
    return max(found)[1] if found else None


def stopped_before(home: Path, federation: str, request: str, *, uid: str | None = None) -> str | None:
    """Return the uid of the newest run of a federation that was stopped on request and asked for the same, or None.

    Args:
        uid: of the only run that is meant, where one is named.
    """
    stopped = [run for run in runs_in(home, federation) if run.stopped.is_file() and uid in (None, run.uid)]
    return max((run.uid for run in stopped if json_if_readable(run.stopped).get("request") == request), default=None)


def choose_run(
    job: Path,
    *,
    workspace: Path | None,
    home: Path | None,
    data: Path | None,
    rounds: int | None,
    overrides: Mapping[str, Any],
    method: str | None,
    uid: str | None,
    resume: bool,
    new: bool,
    held: ExitStack,
) -> ChosenRun:
    """Decide which run it is and write its job; the arguments are those of `simulate`.

    Args:
        held: keeps the run's lock until the simulation ends.

    Raises:
        RunningError: it is running.
        SimulationError, JobFolderError: nothing to run, nothing to resume, or a workspace that may be precious.
    """
    source = JobFolder.read(job)
    said = source.job
    settings = judged_values(
        bundle=said.bundle, values=said.settings, changes=overrides, sites=said.sites, method=method
    )
    federation = f"{settings['method'].rpartition('.')[2]}_{said.dataset}" if method else said.federation
    if rounds is not None and rounds < 1:
        raise SimulationError(f"rounds is {rounds}; expected at least 1")
    wanted = replace(said, federation=federation, rounds=rounds or said.rounds, settings=settings)
    root = (home or default_home()).absolute()
    uid = uid or said.uid or None
    resume = resume or said.resume
    request = source.request(wanted, data=data)
    before = None if resume or new else stopped_before(root, federation, request, uid=uid)
    if before:
        uid, resume = before, True
    if resume and uid is None:
        uid = last_unfinished(root, federation)
        if uid is None:
            raise SimulationError(f"nothing to resume: {root / federation} holds no unfinished run; leave resume out")
    uid = checked_name("uid", uid or new_uid())
    run = RunFolder.of(root, federation, uid)
    folder = run.path
    require_idle([run.lock(), *(run.lock(who) for who in run.participants())], str(folder))
    written = bool(run.rounds(SERVER).numbers())
    if written and not resume:
        raise SimulationError(f"there is a run with uid {uid} in {folder}; resume it (--resume), or choose another uid")
    if resume and not folder.exists():
        raise SimulationError(f"nothing to resume: there is no run with uid {uid}, looked for {folder}")
    place = (workspace or run.workspace).absolute()
    require_one_word(place)
    require_disposable(place)
    # A run that was stopped before its first round was written has nothing to go on with.
    held.enter_context(working(run.lock(), str(folder)))
    with saying(run.job):
        edited = source.edited(run.job / federation, replace(wanted, uid=uid, resume=written))
        make_private(run.job)
    env = environment(home=root, data=data.absolute() if data else None)
    return ChosenRun(
        job=edited,
        folder=folder,
        workspace=place,
        uid=uid,
        resume=written,
        env=env,
        request=request,
        found=bool(before),
    )


def require_one_word(workspace: Path) -> None:
    """Refuse a folder by whose name NVFlare's simulator would take its own commands apart, and wait for a minute."""
    if found := _TAKEN_APART.search(str(workspace)):
        raise SimulationError(
            f"workspace {workspace} holds {found[0]!r}, by which NVFlare's simulator takes its commands apart; "
            "expected a path without blanks, quotes, # and backslashes: name one with --workspace, or another --home"
        )


def require_disposable(workspace: Path) -> None:
    """Refuse a folder that NVFlare would empty although it holds something else."""
    if workspace.is_file():
        raise SimulationError(f"workspace {workspace} is a file, expected a folder that may be emptied")
    found = {path.name for path in workspace.iterdir()} if workspace.is_dir() else set()
    if found and not (workspace / SERVER / "simulate_job").is_dir() and found - _OURS:
        raise SimulationError(
            f"workspace {workspace} holds {', '.join(sorted(found)[:5])} and NVFlare would empty it; expected an empty "
            "folder or one of an earlier simulation. Name another folder"
        )
