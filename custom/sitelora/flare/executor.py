"""One executor for all methods: hands each task to the plain-Python site, and passes on what has left it.

The answer has gone through the site's own exit before it comes here; of an error only a code leaves.

The site object lives as long as the process. When NVFlare starts a new process for every task (its simulator with
fewer threads than sites), the run's worker does the task (``simulator.worker``); without it nothing is lost either.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from sitelora.federation.refusals import code_of
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.run_lock import end_on_request
from sitelora.federation.site_tasks import SiteTasks, note_failure
from sitelora.flare.protocol import (
    ProtocolError,
    Ticket,
    error_shareable,
    read_task,
    reply_shareable,
)
from sitelora.flare.sealed_tensors import passed, register_tensors
from sitelora.flare.signs import SignsOfLife
from sitelora.flare.site_config import SiteConfig, read_job, refuse_arguments, require_allowed_job
from sitelora.flare.taking_turns import turns_at_site
from sitelora.sharing.sealed import seal, unpack, unseal
from sitelora.simulator.run_workers import ask_worker, folder_of

if TYPE_CHECKING:
    from sitelora.federation.job import Job
    from sitelora.sharing.wire import Packet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Came:
    """What came of a task: an answer's tensors and report, or a code, or neither where it was stopped."""

    packet: Packet = field(default_factory=dict)
    report: dict[str, Any] | None = None
    code: str = ""


class SiteExecutor(Executor):
    """A site of a federation as an NVFlare executor; what it takes part in stands in ``config/sitelora.json``.

    Args:
        unexpected: arguments that a job gives it although there are none; refused in the answer to the first task.
    """

    def __init__(self, /, **unexpected: object) -> None:
        super().__init__()
        self._unexpected = tuple(unexpected)
        self._tasks = SiteTasks()
        self._workers: Path | None = None
        self._passes_on = False
        self._signs = SignsOfLife()
        self._uid = ""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Let tensors travel and give signs of life, from the start of a run to its end."""
        if event_type == EventType.START_RUN:
            self._workers = folder_of(os.getppid()) if turns_at_site(fl_ctx) else None
            self._passes_on = register_tensors(only_passed_on=self._workers is not None)
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
        of_this_job = False
        try:
            own = SiteConfig.of(fl_ctx)
            ticket, packet = read_task(shareable)
            job = read_job(fl_ctx)
            self._require_own(ticket, job)
            of_this_job = True
            refuse_arguments(self._unexpected)
            require_allowed_job(fl_ctx, own, RunFolder.of(own.home, ticket.federation, ticket.uid).path)
            came = self._do(task_name, ticket, packet, own, job, abort_signal)
        except Exception as error:
            logger.exception("site %s: task %s failed", name, task_name)
            return self._failed(ticket, error, fl_ctx, of_this_job=of_this_job)
        if came.report is not None:
            return reply_shareable(ticket, came.packet, came.report)
        return error_shareable(ticket, came.code) if came.code else make_reply(ReturnCode.TASK_ABORTED)

    def _require_own(self, ticket: Ticket, job: Job) -> None:
        """Refuse a task of another federation or run than this job's; the uid that the server says first is its run.

        Every uid has its own count of rounds and answers, so a job with many would have as many times what is allowed.
        """
        uid = job.uid or self._uid
        if ticket.federation != job.federation or (uid and ticket.uid != uid):
            raise ProtocolError(
                f"a task of federation {ticket.federation!r}, uid {ticket.uid!r}; this job is {job.federation!r}, "
                f"uid {uid or 'as the server says'!r}"
            )
        self._uid = ticket.uid

    def _do(self, task: str, ticket: Ticket, packet: Packet, own: SiteConfig, job: Job, abort: Signal) -> _Came:
        """Do a task: the run's worker, where there is one, else this process."""
        came = None if self._workers is None else self._asked(self._workers, task, ticket, packet, own, job, abort)
        if came is not None:
            return came
        if self._passes_on:
            packet = unseal(seal(packet))
        outcome = self._tasks.do(task, ticket, packet, own=own, job=job, aborted=lambda: bool(abort.triggered))
        if outcome.answer is None:
            return _Came(code=outcome.code)
        tensors = outcome.answer.tensors
        return _Came(packet=self._leaving(seal(tensors)) if self._passes_on else tensors, report=outcome.answer.report)

    def _asked(
        self, workers: Path, task: str, ticket: Ticket, packet: Packet, own: SiteConfig, job: Job, abort: Signal
    ) -> _Came | None:
        """Have the run's worker do a task; None where there is no worker to ask."""
        asked = {"task": task, "site": own.name, "ticket": ticket.meta(), "job": job.to_json()}
        found = ask_worker(workers, asked, seal(packet), aborted=lambda: bool(abort.triggered))
        if found is None:
            return None
        words, back = found
        if "refused" in words:
            raise ProtocolError(f"the run's worker refuses the task: {words['refused']}")
        if "report" in words:
            return _Came(packet=self._leaving(back), report=words["report"])
        return _Came(code=str(words.get("code", "")))

    def _leaving(self, packet: bytes) -> Packet:
        """Return an answer's tensors as NVFlare takes them in this process."""
        return passed(unpack(packet)) if self._passes_on else unseal(packet)  # type: ignore[return-value]

    def _failed(self, ticket: Ticket | None, error: Exception, fl_ctx: FLContext, *, of_this_job: bool) -> Shareable:
        """Return an error's code; noted in the run's folder, unless the task is of another run than this job's."""
        if ticket is None or not of_this_job:
            return error_shareable(ticket, code_of(error))
        try:
            own = SiteConfig.of(fl_ctx)
        except ValueError:  # the site's own configuration is what is wrong, and its log says so
            return error_shareable(ticket, "configuration_refused")
        return error_shareable(ticket, note_failure(ticket, own, error))
