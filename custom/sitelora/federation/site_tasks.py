"""The three tasks of a site, each done once it is asked, with what the site's own log tells of it.

NVFlare's executor holds one `SiteTasks` for its site; the worker of a simulated run holds one for all sites. A site
lives as long as it: its network, its trainer and its prepared cases. Nothing is lost where a process ends in between:
all state is on disk, and round r starts from the state of round r-1.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sitelora.federation.events import EventLog
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.refusals import code_of
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.run_lock import RunningError, working
from sitelora.federation.task_names import BEGIN, EVALUATE, TRAIN
from sitelora.federation.ticket import ProtocolError, Ticket

if TYPE_CHECKING:  # torch, which a process that only asks another one has no use for
    from sitelora.federation.job import Job
    from sitelora.federation.one_base import OneBase
    from sitelora.federation.site import Site
    from sitelora.federation.site_settings import Answer
    from sitelora.sharing.bounds import ExitBounds
    from sitelora.sharing.wire import Packet

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_STEPS = 1.0
RUNNING = "running"


class TaskAborted(Exception):
    """Whoever asked wants it no more; not an error."""


class Participant(Protocol):
    """What a site says of itself, whatever a job says."""

    @property
    def name(self) -> str:
        """Of the site."""

    @property
    def home(self) -> Path:
        """Where it keeps its state."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Modules whose functions a job may name as methods here."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Bundle values that the site sets."""

    @property
    def bounds(self) -> ExitBounds:
        """What bounds its answers."""

    @property
    def bases(self) -> Sequence[str] | None:
        """What its network may stand on, None for anything."""

    @property
    def most_missed_rounds(self) -> int | None:
        """How many rounds in a row it may have been away in, None for any number."""

    def site_folder(self, dataset: str) -> tuple[Path, bool]:
        """Return its folder of a dataset, and whether it had to be drawn."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a task: an answer, or a code of ``refusals.REMEDIES``; neither where nobody wanted it any more."""

    answer: Answer | None = None
    code: str = ""


@dataclass
class _Held:
    """A site of this process: for which job, and the folder of its data where that was drawn and nobody was told."""

    job: Job
    site: Site
    drawn: Path | None


class SiteTasks:
    """The sites of this process; they lie on one frozen base."""

    def __init__(self) -> None:
        self._sites: dict[str, _Held] = {}
        self._one_base: OneBase | None = None

    def prepare(self, ticket: Ticket, *, own: Participant, job: Job) -> None:
        """Draw a site's data where that is missing and may be drawn, and build its network and trainer.

        Nothing is written into the run: the site's own task does that. What is wrong here is wrong there again.
        """
        try:
            _ = self._held(ticket, own, job).site.local_round
        except Exception as error:
            self._sites.pop(own.name, None)
            logger.debug("site %s: not prepared: %s", own.name, error)

    def do(
        self,
        task: str,
        ticket: Ticket,
        packet: Packet,
        *,
        own: Participant,
        job: Job,
        aborted: Callable[[], bool],
    ) -> Outcome:
        """Do one task; an error stays in the site's own log with its text and traceback, and becomes a code.

        Args:
            task: one of ``task_names.TASKS``. packet: tensors by name, as they travelled.
            own: whose task it is. job: what the job says, judged by the site's policy before.
            aborted: whether whoever asked wants it no more; looked at after every step.
        """
        run = RunFolder.of(own.home, ticket.federation, ticket.uid)
        log = EventLog(run.site(own.name), own.name)
        try:
            with working(run.lock(own.name), f"{run.path}, {own.name}", stopped=log.stopped):
                return Outcome(answer=self._do(task, ticket, packet, own, job, aborted, log))
        except TaskAborted:
            self._forget()
            logger.info("site %s: stopped in task %s; what was finished before is kept", own.name, task)
            return Outcome()
        except RunningError as error:  # the run is another process's: nothing is written into it
            logger.error("site %s: %s", own.name, error)
            return Outcome(code=RUNNING)
        except Exception as error:
            self._forget()
            logger.exception("site %s: task %s failed", own.name, task)
            return Outcome(code=note_failure(ticket, own, error))

    def _do(
        self,
        task: str,
        ticket: Ticket,
        packet: Packet,
        own: Participant,
        job: Job,
        aborted: Callable[[], bool],
        log: EventLog,
    ) -> Answer:
        from sitelora.sharing.wire import packet_bytes

        number = ticket.round_number
        began = time.monotonic()
        log.write("task_started", task=task, round=number, bytes_down=packet_bytes(packet))
        held = self._held(ticket, own, job)
        site = held.site
        if held.drawn is not None:
            log.write("artificial_data", folder=str(held.drawn))
            held.drawn = None
        progress = Progress(log, number, aborted)
        for mended in [] if task == BEGIN else site.mend(progress=progress):
            log.write("mended", round=mended)
        if task == BEGIN and number == BEGIN_ROUND:
            answer = site.begin()
        elif task == TRAIN:
            answer = site.train(number, packet, progress=progress)
        elif task == EVALUATE and job.evaluate and number == site.turns.evaluation_round:
            answer = site.evaluate(packet)
        else:
            raise ProtocolError(
                f"task {task!r} of round {number}; expected {BEGIN} of round {BEGIN_ROUND}, {TRAIN}, or {EVALUATE} "
                "after the last round where the job plans one"
            )
        if aborted():
            raise TaskAborted
        if answer.tensors:
            log.write("left", round=number, tensors=len(answer.tensors), bytes=packet_bytes(answer.tensors))
        seconds = round(time.monotonic() - began, 2)
        log.write("task_finished", task=task, round=number, seconds=seconds, **_summary(task, answer))
        return answer

    def _held(self, ticket: Ticket, own: Participant, job: Job) -> _Held:
        from sitelora.federation.one_base import OneBase
        from sitelora.federation.site import Site  # a second of imports, only where a task comes
        from sitelora.federation.site_settings import SiteSettings

        held = self._sites.get(own.name)
        if held is not None and held.job == job:
            kept = held.site.settings
            if (kept.uid, kept.home) == (ticket.uid, own.home):
                return held
        settings = job.run_settings(own_methods=own.methods, site_values=own.values)
        folder, drawn = own.site_folder(job.dataset)
        self._one_base = self._one_base or OneBase()
        site = Site(
            SiteSettings.of_job(
                job,
                federation=ticket.federation,
                agreed=job.agreed(settings),
                site=own.name,
                uid=ticket.uid,
                data=folder,
                home=own.home,
                own_methods=own.methods,
                site_values=own.values,
                missed=own.most_missed_rounds,
                bounds=own.bounds,
                bases=own.bases,
            ),
            one_base=self._one_base,
        )
        self._sites[own.name] = held = _Held(job, site, folder if drawn else None)
        return held

    def _forget(self) -> None:
        """Let all sites be built anew: half a round may be in one, half a model in what they share."""
        self._sites.clear()
        self._one_base = None


def note_failure(ticket: Ticket, own: Participant, error: Exception) -> str:
    """Write an error into the site's own log of the run, and return what leaves of it: a code."""
    code = code_of(error)
    text = f"{own.name}: {error}" if own.name not in str(error) else str(error)
    if not isinstance(error, ValueError | RuntimeError | LookupError | OSError):
        text = f"{text} ({type(error).__name__})"
    run = RunFolder.of(own.home, ticket.federation, ticket.uid)
    with contextlib.suppress(OSError):  # a full disk must not keep the code of it back
        EventLog(run.site(own.name), own.name).write("error", code=code, error=text)
    return code


class Progress:
    """Writes a step a second to the event log, and leaves training when nobody wants it any more."""

    def __init__(self, log: EventLog, round_number: int, aborted: Callable[[], bool]) -> None:
        self._log = log
        self._round = round_number
        self._aborted = aborted
        self._wrote = 0.0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Note a step; as of ``local_round.Progress``.

        Raises:
            TaskAborted: nobody wants the round any more.
        """
        if self._aborted():
            raise TaskAborted
        now = time.monotonic()
        if step == steps or now - self._wrote >= SECONDS_BETWEEN_STEPS:
            self._wrote = now
            self._log.write("step", round=self._round, step=step, steps=steps, loss=round(loss, 5))


def _summary(task: str, answer: Answer) -> dict[str, Any]:
    report = answer.report
    if task == TRAIN:
        return {"metrics": report["metrics"], "resent": bool(report.get("resent"))}
    if task == EVALUATE:
        return {"cases": len(report["patients"]), "models": sorted({c.partition(".")[0] for c in report["columns"]})}
    return {"cases": report["cases"], "hospital": report["hospital"]}
