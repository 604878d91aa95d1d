"""`sitelora simulate JOB`: NVFlare's own simulator, followed live and judged by what it achieved.

It changes nothing about how a job runs: a copy of the job folder with uid, rounds and overrides filled in goes to
``nvflare simulator``, the participants' event logs are read while it works, and everything it started is gone
afterwards. Interrupted at any moment, the same command with ``resume`` ends with the same bits.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from sitelora.federation.identity import checked_name, new_uid
from sitelora.flare.following import EventFollower, RunView, SiteView
from sitelora.flare.job_folder import JobFolder
from sitelora.flare.names import RESULT, SERVER
from sitelora.flare.processes import ProcessFamily, environment, simulator_command
from sitelora.flare.terminal import RunDisplay
from sitelora.flare.verdict import problems_of, read_result
from sitelora.home import home as default_home

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5
_OURS = {"local", "startup", SERVER}


class SimulationError(RuntimeError):
    """A simulation cannot begin; nothing was touched."""


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What came of a simulation.

    Attributes:
        ok: all rounds, all sites, all evaluations, no error logged.
        uid: of the run. run_folder: state of all participants.
        result: content of ``result.json``, if the server wrote one.
        problems: why it is not ok, each readable by itself.
        log: everything that NVFlare printed.
    """

    ok: bool
    uid: str
    run_folder: Path
    result: Mapping[str, Any] | None
    problems: tuple[str, ...]
    log: Path
    interrupted: bool = False


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run that was decided on: which, where, and whether it goes on."""

    job: JobFolder
    folder: Path
    workspace: Path
    uid: str
    resume: bool
    env: Mapping[str, str] = field(repr=False)


def simulate(
    job: Path,
    *,
    workspace: Path | None = None,
    home: Path | None = None,
    data: Path | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    uid: str | None = None,
    resume: bool = False,
    progress: bool = True,
    log_file: Path | None = None,
    stream: TextIO | None = None,
) -> SimulationResult:
    """Run a job folder in NVFlare's simulator and say truly whether it worked.

    Args:
        job: the job folder.
        workspace: for NVFlare, which empties it; by default in the run's folder.
        home: where all participants keep their state. data: root of the site folders; both by default as configured.
        threads: sites that run at once; by default all. Fewer start a new process for every task.
        rounds: instead of the job's. overrides: bundle values, added to the job's.
        uid: of the run; by default the job's, else a new one, or with ``resume`` the last unfinished run.
        resume: go on after the last round that is written.
        progress: show what happens on ``stream``, by default standard output.
        log_file: what NVFlare prints; by default ``simulator.log`` in the run's folder.

    Raises:
        SimulationError, JobFolderError: nothing to run, nothing to resume, or a workspace that may be precious.
    """
    run = _decide(
        job, workspace=workspace, home=home, data=data, rounds=rounds, overrides=overrides, uid=uid, resume=resume
    )
    threads = min(threads or len(run.job.sites), len(run.job.sites))
    log = (log_file or run.folder / "simulator.log").absolute()
    view = RunView(rounds=run.job.rounds, sites={site: SiteView() for site in run.job.sites})
    follower = EventFollower(run.folder)
    title = f"{run.job.federation} {run.uid}"
    display = RunDisplay(view, title=title, stream=stream or sys.stdout) if progress else None
    with _sigterm_as_interrupt():
        command = simulator_command(job=run.job.path, workspace=run.workspace, threads=threads)
        simulator = ProcessFamily(command, folder=run.workspace.parent, env=run.env, log=log)
        try:
            code = _follow(simulator, follower, view, display)
            simulator.wait_for_stragglers()
        except KeyboardInterrupt:
            with _deaf():
                simulator.end()
            return _interrupted(run, job, log)
        except BaseException:
            simulator.end()
            raise
    result = read_result(run.workspace)
    problems = problems_of(run.job, result, run.workspace, code)
    return SimulationResult(
        ok=not problems,
        uid=run.uid,
        run_folder=run.folder,
        result=result,
        problems=tuple(problems),
        log=log,
    )


def last_unfinished(home: Path, federation: str) -> str | None:
    """Return the uid of the run of a federation that was worked on last and is not completed, or None."""
    found: list[tuple[float, str]] = []
    for server in (home / federation).glob(f"*/{SERVER}"):
        result = server / RESULT
        if not (result.is_file() and json.loads(result.read_text(encoding="utf-8")).get("completed")):
            found.append((max(path.stat().st_mtime for path in (server, *server.iterdir())), server.parent.name))
    return max(found)[1] if found else None


def _decide(
    job: Path,
    *,
    workspace: Path | None,
    home: Path | None,
    data: Path | None,
    rounds: int | None,
    overrides: Mapping[str, Any] | None,
    uid: str | None,
    resume: bool,
) -> _Run:
    source = JobFolder.read(job)
    root = (home or default_home()).absolute()
    uid = uid or source.controller.get("uid") or None
    resume = resume or bool(source.controller.get("resume"))
    if rounds is not None and rounds < 1:
        raise SimulationError(f"rounds is {rounds}; expected at least 1")
    if resume and uid is None:
        uid = last_unfinished(root, source.federation)
        if uid is None:
            raise SimulationError(
                f"nothing to resume: {root / source.federation} holds no unfinished run; leave resume out"
            )
    uid = checked_name("uid", uid or new_uid())
    folder = root / source.federation / uid
    written = any((folder / SERVER).glob("round_*/manifest.json"))
    if written and not resume:
        raise SimulationError(f"there is a run with uid {uid} in {folder}; resume it, or choose another uid")
    if resume and not folder.exists():
        raise SimulationError(f"nothing to resume: there is no run with uid {uid}, looked for {folder}")
    place = (workspace or folder / "workspace").absolute()
    _require_disposable(place)
    edited = source.edited(
        folder / "job" / source.name,
        rounds=rounds,
        overrides=overrides or {},
        uid=uid,
        resume=written,  # a run that was stopped before its first round was written has nothing to go on with
    )
    env = environment(home=root, data=data.absolute() if data else None)
    return _Run(job=edited, folder=folder, workspace=place, uid=uid, resume=written, env=env)


def _require_disposable(workspace: Path) -> None:
    """Refuse a folder that NVFlare would empty although it holds something else."""
    if workspace.is_file():
        raise SimulationError(f"workspace {workspace} is a file, expected a folder that may be emptied")
    found = {path.name for path in workspace.iterdir()} if workspace.is_dir() else set()
    if found and not (workspace / SERVER / "simulate_job").is_dir() and found - _OURS:
        raise SimulationError(
            f"workspace {workspace} holds {', '.join(sorted(found)[:5])} and NVFlare would empty it; expected an empty "
            "folder or one of an earlier simulation. Name another folder"
        )


def _follow(simulator: ProcessFamily, follower: EventFollower, view: RunView, display: RunDisplay | None) -> int:
    while True:
        code = simulator.returncode()
        events = follower.poll()
        for event in events:
            view.take(event)
        if display is not None:
            display.show(events)
        if code is not None:
            return code
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _interrupted(run: _Run, job: Path, log: Path) -> SimulationResult:
    how = f"sitelora simulate {job} --resume --uid {run.uid}"
    return SimulationResult(
        ok=False,
        uid=run.uid,
        run_folder=run.folder,
        result=read_result(run.workspace),
        problems=(f"stopped on request; all processes are ended. Go on with the same options and: {how}",),
        log=log,
        interrupted=True,
    )


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let a request to end stop the simulator too; Python lets only the main thread ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _deaf() -> Iterator[None]:
    """Let nobody interrupt the end of an interrupted run: a second Ctrl-C would leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
