"""One executor for all methods: hands each task to the plain-Python site, and passes on what has left it.

The answer has gone through the site's own exit before it comes here; of an error only a code leaves.

The site object lives as long as the process. When NVFlare starts a new process for every task (its simulator with
fewer threads than sites), nothing is lost: all state is on disk, and round r starts from the state of round r-1.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from sitelora.federation.events import EventLog
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.job import Job
from sitelora.federation.refusals import code_of
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.run_lock import RunningError, end_on_request, working
from sitelora.federation.task_names import BEGIN, EVALUATE, TRAIN
from sitelora.flare.answers import site_folder_of_run
from sitelora.flare.protocol import (
    ProtocolError,
    Ticket,
    error_shareable,
    read_task,
    reply_shareable,
)
from sitelora.flare.signs import SignsOfLife
from sitelora.flare.site_config import SiteConfig, read_job, refuse_arguments, require_allowed_job
from sitelora.sharing.wire import Packet, packet_bytes

if TYPE_CHECKING:
    from sitelora.federation.site import Site
    from sitelora.federation.site_settings import Answer

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_STEPS = 1.0


class TaskAborted(Exception):
    """NVFlare asked to stop; not an error."""


class SiteExecutor(Executor):
    """A site of a federation as an NVFlare executor; what it takes part in stands in ``config/sitelora.json``.

    Args:
        unexpected: arguments that a job gives it although there are none; refused in the answer to the first task.
    """

    def __init__(self, /, **unexpected: object) -> None:
        super().__init__()
        self._unexpected = tuple(unexpected)
        self._site: Site | None = None
        self._signs = SignsOfLife()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Let tensors travel and give signs of life, from the start of a run to its end."""
        if event_type == EventType.START_RUN:
            fobs.register(TensorDecomposer)
            end_on_request()
            self._signs.begin(fl_ctx.get_engine())
        elif event_type == EventType.AFTER_SEND_TASK_RESULT:
            self._signs.idle()
        elif event_type in (EventType.ABORT_TASK, EventType.ABOUT_TO_END_RUN):
            self._signs.end()
        elif event_type == EventType.SWAP_OUT:  # NVFlare's simulator, where sites take turns
            self._signs.end(away=True)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Do one task; an error stays here with its text and traceback, and leaves as a code."""
        name = fl_ctx.get_identity_name()
        self._signs.busy(abort_signal)
        ticket: Ticket | None = None
        try:
            own = SiteConfig.of(fl_ctx)
            ticket, packet = read_task(shareable)
            refuse_arguments(self._unexpected)
            job = read_job(fl_ctx)
            if ticket.federation != job.federation or (job.uid and ticket.uid != job.uid):
                raise ProtocolError(
                    f"a task of federation {ticket.federation!r}, uid {ticket.uid!r}; this job is {job.federation!r}, "
                    f"uid {job.uid or 'as the server says'!r}"
                )
            run = RunFolder.of(own.home, ticket.federation, ticket.uid)
            require_allowed_job(fl_ctx, own, run.path)
            stopped = EventLog(run.site(own.name), own.name).stopped
            with working(run.lock(own.name), f"{run.path}, {own.name}", stopped=stopped):
                return self._do(task_name, ticket, packet, own, job, abort_signal)
        except TaskAborted:
            self._site = None
            logger.info("site %s: stopped in task %s; what was finished before is kept", name, task_name)
            return make_reply(ReturnCode.TASK_ABORTED)
        except RunningError as error:  # the run is another process's: nothing is written into it
            logger.error("site %s: %s", name, error)
            return error_shareable(ticket, "running")
        except Exception as error:
            self._site = None  # half a round may be in it
            logger.exception("site %s: task %s failed", name, task_name)
            return self._failed(ticket, name, error, fl_ctx)

    def _do(self, task: str, ticket: Ticket, packet: Packet, own: SiteConfig, job: Job, abort: Signal) -> Shareable:
        events = EventLog(site_folder_of_run(ticket, own), own.name)
        number = ticket.round_number
        began = time.monotonic()
        events.write("task_started", task=task, round=number, bytes_down=packet_bytes(packet))
        site = self._site_of(ticket, own, job, events)
        if task == BEGIN and number == BEGIN_ROUND:
            answer = site.begin()
        elif task == TRAIN:
            answer = site.train(number, packet, progress=_Progress(events, number, abort))
        elif task == EVALUATE and job.evaluate and number == site.turns.evaluation_round:
            answer = site.evaluate(packet)
        else:
            raise ProtocolError(
                f"task {task!r} of round {number}; expected {BEGIN} of round {BEGIN_ROUND}, {TRAIN}, or {EVALUATE} "
                "after the last round where the job plans one"
            )
        if abort.triggered:
            raise TaskAborted
        if answer.tensors:
            events.write("left", round=number, tensors=len(answer.tensors), bytes=packet_bytes(answer.tensors))
        events.write(
            "task_finished",
            task=task,
            round=number,
            seconds=round(time.monotonic() - began, 2),
            **_summary(task, answer),
        )
        return reply_shareable(ticket, answer.tensors, answer.report)

    def _site_of(self, ticket: Ticket, own: SiteConfig, job: Job, events: EventLog) -> Site:
        from sitelora.federation.site import Site  # a second of imports, only where a task comes
        from sitelora.federation.site_settings import SiteSettings

        site = self._site
        if site is not None and (site.settings.uid, site.settings.home) == (ticket.uid, own.home):
            return site
        settings = job.run_settings(own_methods=own.methods, site_values=own.values)
        folder, drawn = own.site_folder(job.dataset)
        if drawn:
            events.write("artificial_data", folder=str(folder))
        self._site = Site(
            SiteSettings(
                site=own.name,
                federation=ticket.federation,
                uid=ticket.uid,
                bundle=job.bundle,
                data=folder,
                dataset=job.dataset,
                home=own.home,
                overrides=job.settings,
                wire=job.wire,
                own_methods=own.methods,
                site_values=own.values,
                agreed=job.agreed(settings),
                rounds=job.rounds,
                sites=len(job.sites),
                missed=own.policy.most_missed_rounds,
                bounds=own.policy.bounds,
            )
        )
        return self._site

    def _failed(self, ticket: Ticket | None, name: str, error: Exception, fl_ctx: FLContext) -> Shareable:
        code = code_of(error)
        if ticket is None:
            return error_shareable(None, code)
        try:
            own = SiteConfig.of(fl_ctx)
        except ValueError:  # the site's own configuration is what is wrong, and its log says so
            return error_shareable(ticket, "configuration_refused")
        text = f"{name}: {error}" if name not in str(error) else str(error)
        if not isinstance(error, ValueError | RuntimeError | LookupError | OSError):
            text = f"{text} ({type(error).__name__})"
        with contextlib.suppress(OSError):  # a full disk must not keep the code of it back
            EventLog(site_folder_of_run(ticket, own), own.name).write("error", code=code, error=text)
        return error_shareable(ticket, code)


class _Progress:
    """Writes a step a second to the event log, and leaves training when NVFlare asks for it."""

    def __init__(self, events: EventLog, round_number: int, abort: Signal) -> None:
        self._events = events
        self._round = round_number
        self._abort = abort
        self._wrote = 0.0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        if self._abort.triggered:
            raise TaskAborted
        now = time.monotonic()
        if step == steps or now - self._wrote >= SECONDS_BETWEEN_STEPS:
            self._wrote = now
            self._events.write("step", round=self._round, step=step, steps=steps, loss=round(loss, 5))


def _summary(task: str, answer: Answer) -> dict[str, Any]:
    report = answer.report
    if task == TRAIN:
        return {"metrics": report["metrics"], "resent": bool(report.get("resent"))}
    if task == EVALUATE:
        return {"cases": len(report["patients"]), "models": sorted({c.partition(".")[0] for c in report["columns"]})}
    return {"cases": report["cases"], "hospital": report["hospital"]}
