"""How the server asks sites and waits: one task a site, replies as they come, nobody waited for who is gone."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.workflows.model_controller import ModelController
from nvflare.widgets.info_collector import GroupInfoCollector, InfoCollector

from sitelora.federation.presence import Presence
from sitelora.federation.ticket import Ticket
from sitelora.flare.protocol import Reply, read_reply, task_model
from sitelora.flare.signs import receive_signs
from sitelora.sharing.wire import Packet

STANDING = "sitelora"
"""The name under which NVFlare's statistics of a job hold where it stands."""
SECONDS_FOR_A_GOODBYE = 5.0
"""How long an ended job waits for the sites' last word: whoever has none is the reason. NVFlare gives it ten."""
_REASONS = {
    ReturnCode.TASK_RESULT_FILTER_ERROR: "a filter kept its answer back",
    ReturnCode.TASK_DATA_FILTER_ERROR: "a filter refused the message",
    ReturnCode.TASK_ABORTED: "it stopped on request",
    ReturnCode.TASK_UNKNOWN: "it has no executor for this task",
}


class RunAborted(Exception):
    """NVFlare asked to stop; rounds that are written stay."""


class AskingController(ModelController):
    """Sends tasks to named sites and yields what they answer; it knows who is there."""

    def __init__(self) -> None:
        super().__init__(persistor_id="", ignore_result_error=True, allow_empty_global_weights=True)
        self._inbox: queue.Queue[Reply] = queue.Queue()
        self.presence = Presence()
        self.waiting: frozenset[str] = frozenset()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Hear the sites' signs of life from the start of a run; tell whoever asks NVFlare for the job's statistics."""
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.START_RUN:
            receive_signs(fl_ctx.get_engine(), self.presence.heard)
        elif event_type == InfoCollector.EVENT_TYPE_GET_STATS:
            collector = fl_ctx.get_prop(InfoCollector.CTX_KEY_STATS_COLLECTOR)
            if isinstance(collector, GroupInfoCollector):
                silent = sorted(self.presence.silent(self.waiting))
                told = {**self.standing(), "waits_for": sorted(self.waiting), "silent": silent}
                collector.set_info(STANDING, told)

    def standing(self) -> Mapping[str, Any]:
        """Return where the run stands, as plain values."""
        return {}

    def note_silent(self, site: str, reason: str) -> None:
        """Note that a site gives no sign of life; it is still waited for while others are at work."""

    def ask(self, task: str, ticket: Ticket, packets: Mapping[str, Packet], *, timeout: int) -> Iterator[Reply]:
        """Send every site its own packet and yield one reply a site, as they come in; the silent ones last.

        A site that is gone is waited for as long as others are at work, and no longer; it is asked again once it has
        given a sign of life.

        Raises:
            RunAborted: NVFlare asked to stop.
        """
        inbox = self._inbox = queue.Queue()  # a new one, so that what comes late is never taken for this task

        def receiver(site: str) -> Callable[[Any], None]:
            return lambda model: inbox.put(read_reply(site, ticket, model))

        gone = self.presence.lost() & set(packets)
        self.presence.ask()
        waiting, asked = set(packets) - gone, time.monotonic()
        for site in sorted(waiting):
            self.send_model(
                task, task_model(ticket, packets[site]), targets=[site], timeout=timeout, callback=receiver(site)
            )
        silent: dict[str, str] = {}
        while waiting:
            self.waiting = frozenset(waiting)
            ended = not self.get_num_standing_tasks()  # asked first: what comes before a task's end is in the inbox
            try:
                reply = inbox.get(timeout=0.2)
            except queue.Empty:
                if self.abort_signal.triggered:
                    raise RunAborted from None
                before, silent = silent, self.presence.silent(waiting)
                for site in sorted(silent.keys() - before.keys()):
                    self.warning(silent[site])
                    self.note_silent(site, silent[site])
                if ended or len(silent) == len(waiting):
                    break
                continue
            if reply.site in waiting:
                waiting.discard(reply.site)
                yield reply
        self.waiting = frozenset()
        if waiting:
            self.cancel_all_tasks()
        for site in sorted(waiting | gone):
            if site in silent:
                self.presence.lose(site)
                why = f"{silent[site]}, so it is waited for no more: its process has ended, or cannot be reached"
            elif site in gone:
                why = f"{site}: not asked, there has been no sign of life since it was lost"
            else:
                why = f"no answer within {time.monotonic() - asked:.0f} s"
            yield Reply(site=site, error=why)

    def without_a_word(self, sites: Collection[str]) -> list[str]:
        """Return the sites that do not say goodbye to a job that has been ended, after the time that they have."""
        began = time.monotonic()
        while (gone := self.presence.without_a_word(sites)) and time.monotonic() - began < SECONDS_FOR_A_GOODBYE:
            time.sleep(0.1)
        return sorted(gone)

    def _accept_train_result(
        self, client_name: str, result: Shareable, fl_ctx: FLContext, is_unknown_task: bool = False
    ) -> bool:
        """Note NVFlare's own error codes, which no callback is told of."""
        code = result.get_return_code()
        if code and code != ReturnCode.OK and not is_unknown_task:
            reason = f"{_REASONS.get(code, 'NVFlare could not do the task')} ({code}); the site's log says more"
            self._inbox.put(Reply(site=client_name, error=reason))
        return bool(super()._accept_train_result(client_name, result, fl_ctx, is_unknown_task))
