"""`sitelora simulate JOB`: NVFlare's own simulator, followed live and judged by what it achieved.

It changes nothing about how a job runs: a copy of the job folder with uid, rounds and overrides filled in goes to
``nvflare simulator``, the participants' event logs are read while it works, and everything it started is gone
afterwards. Stopped at any moment, the same command goes on and ends with the same bits.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sitelora.federation.files import write_json
from sitelora.federation.job_folder import JobFolder
from sitelora.federation.run_folder import RunFolder
from sitelora.run_result import RunResult
from sitelora.simulator.check_outcome import problems_of, read_result
from sitelora.simulator.event_follower import EventFollower, RunView, SiteView
from sitelora.simulator.gpus import require_gpus
from sitelora.simulator.live_view import RunDisplay
from sitelora.simulator.processes import ProcessFamily, simulator_command
from sitelora.simulator.resolve_run import ChosenRun, choose_run
from sitelora.stopping import STOPS, stops_as_interrupt

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """What came of a simulation.

    Attributes:
        ok: all rounds, all sites, all evaluations, no error logged.
        uid: of the run. run_folder: state of all participants.
        result: the record of the run, if the server wrote one.
        problems: why it is not ok, each readable by itself.
        log: everything that NVFlare printed.
    """

    ok: bool
    uid: str
    run_folder: Path
    result: RunResult | None
    problems: tuple[str, ...]
    log: Path
    interrupted: bool = False


def simulate(
    job: Path,
    *,
    workspace: Path | None = None,
    home: Path | None = None,
    data: Path | None = None,
    threads: int | None = None,
    gpus: str | None = None,
    rounds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    method: str | None = None,
    uid: str | None = None,
    resume: bool = False,
    new: bool = False,
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
        gpus: for NVFlare to deal out to the sites, as of ``require_gpus``; by default it deals out none.
        rounds: instead of the job's. overrides: bundle values, added to the job's.
        method: name of another method at the job's rank, for a comparison; the federation is then called
            ``<method>_<dataset>``.
        uid: of the run; by default the job's, else that of a run which was stopped on request and asked for just
            the same, else a new one; with ``resume`` the last unfinished run.
        resume: go on after the last round that is written.
        new: begin a new run even where one was stopped that asked for just the same.
        progress: show what happens on ``stream``, by default standard output.
        log_file: what NVFlare prints; by default ``simulator.log`` in the run's folder.

    Raises:
        RunningError: this very run is running already.
        SimulationError, JobFolderError: nothing to run, nothing to resume, a workspace that may be precious, or GPUs
            that are not here.
    """
    if gpus is not None:
        gpus = require_gpus(gpus, sites=len(JobFolder.read(job).job.sites))
    with ExitStack() as held:
        run = choose_run(
            job,
            workspace=workspace,
            home=home,
            data=data,
            rounds=rounds,
            overrides=overrides or {},
            method=method,
            uid=uid,
            resume=resume,
            new=new,
            held=held,
        )
        return _simulated(run, threads=threads, gpus=gpus, progress=progress, log_file=log_file, stream=stream)


def _simulated(
    run: ChosenRun,
    *,
    threads: int | None,
    gpus: str | None,
    progress: bool,
    log_file: Path | None,
    stream: TextIO | None,
) -> SimulationResult:
    place = RunFolder(run.folder)
    threads = min(threads or len(run.job.sites), len(run.job.sites))
    log = (log_file or place.simulator_log).absolute()
    view = RunView(rounds=run.job.rounds, sites={site: SiteView() for site in run.job.sites})
    follower = EventFollower(run.folder)
    title = f"{run.job.federation} {run.uid}"
    stream = stream or sys.stdout
    display = RunDisplay(view, title=title, stream=stream) if progress else None
    if display is not None and run.found:
        stream.write(f"going on with {run.uid}, which was stopped; --new begins another run\n")
    place.stopped.unlink(missing_ok=True)
    with stops_as_interrupt():
        command = simulator_command(job=run.job.path, workspace=run.workspace, threads=threads, gpus=gpus)
        simulator = ProcessFamily(command, folder=run.workspace.parent, env=run.env, log=log)
        try:
            code = _follow(simulator, follower, view, display)
            simulator.wait_for_stragglers()
        except KeyboardInterrupt:
            with _deaf():
                simulator.end()
                write_json(place.stopped, {"request": run.request})
            return _interrupted(run, log)
        except BaseException:
            simulator.end()
            raise
    result = read_result(run.workspace)
    # What a site said of an error stays at the site; here the sites' own events are at hand.
    problems = [*problems_of(run.job, result, run.workspace, code), *dict.fromkeys(view.errors)]
    return SimulationResult(
        ok=not problems,
        uid=run.uid,
        run_folder=run.folder,
        result=result,
        problems=tuple(problems),
        log=log,
    )


def _follow(simulator: ProcessFamily, follower: EventFollower, view: RunView, display: RunDisplay | None) -> int:
    try:
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
    finally:
        if display is not None:
            display.end()


def _interrupted(run: ChosenRun, log: Path) -> SimulationResult:
    return SimulationResult(
        ok=False,
        uid=run.uid,
        run_folder=run.folder,
        result=read_result(run.workspace),
        problems=("stopped on request; all processes are ended. The same command goes on with it",),
        log=log,
        interrupted=True,
    )


@contextmanager
def _deaf() -> Iterator[None]:
    """Let nobody interrupt the end of an interrupted run: a second Ctrl-C would leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *STOPS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
