"""A federation as one NVFlare workflow: begin, one message a site and round, evaluation, ``result.json``.

All that is decided is decided by the plain-Python coordinator; this is its transport. Success is positive: only a
``result.json`` that says so means that all rounds ran, because NVFlare may exit with 0 when nothing was trained.
"""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.workflows.model_controller import ModelController
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from sitelora.federation.bundle_config import load_method, set_torch_threads
from sitelora.federation.coordinator import Coordinator, FederationError, FederationPlan
from sitelora.federation.events import EventLog
from sitelora.federation.files import write_json
from sitelora.federation.identity import BEGIN_ROUND, checked_name, new_uid
from sitelora.flare.names import BEGIN, EVALUATE, RESULT, SERVER, TRAIN
from sitelora.flare.place import Place
from sitelora.flare.protocol import Reply, Ticket, read_reply, task_model
from sitelora.sharing.wire import Packet, WireFormat, packet_bytes

_REASONS = {
    ReturnCode.TASK_RESULT_FILTER_ERROR: "a filter kept its answer back",
    ReturnCode.TASK_DATA_FILTER_ERROR: "a filter refused the message",
    ReturnCode.TASK_ABORTED: "it stopped on request",
    ReturnCode.TASK_UNKNOWN: "it has no executor for this task",
}


class RunAborted(Exception):
    """NVFlare asked to stop; rounds that are written stay."""


class FederationController(ModelController):
    """Drives a federation through NVFlare.

    Args:
        bundle: name of an installed MONAI bundle. dataset: name of the sites' dataset.
        federation: name of the federation. sites: names of its sites. rounds: how many.
        min_sites: fewest updates that a round needs.
        overrides: bundle values that the job sets, by id.
        wire_dtype, clip_norm, noise_std: how values travel.
        uid: of this run; empty for a new one. resume: go on after the last round written for ``uid``.
        begin_timeout, train_timeout, evaluate_timeout: seconds that a task may take. NVFlare counts from when the
            task is there to be fetched, so with fewer simulator threads than sites it covers all sites in turn.
        evaluate: score the models after the last round.
    """

    # What an exported job should show although it is the default: what one edits before a run.
    _always_serialize_args = ("min_sites", "uid", "resume", "train_timeout", "evaluate")

    def __init__(
        self,
        *,
        bundle: str,
        dataset: str,
        federation: str,
        sites: list[str],
        rounds: int,
        min_sites: int = 1,
        overrides: dict[str, Any] | None = None,
        wire_dtype: str = "bfloat16",
        clip_norm: float | None = None,
        noise_std: float = 0.0,
        uid: str = "",
        resume: bool = False,
        begin_timeout: int = 1800,
        train_timeout: int = 1800,
        evaluate_timeout: int = 1800,
        evaluate: bool = True,
    ) -> None:
        super().__init__(persistor_id="", ignore_result_error=True, allow_empty_global_weights=True)
        self.bundle = bundle
        self.dataset = dataset
        self.federation = federation
        self.sites = sites
        self.rounds = rounds
        self.min_sites = min_sites
        self.overrides = overrides
        self.wire_dtype = wire_dtype
        self.clip_norm = clip_norm
        self.noise_std = noise_std
        self.uid = uid
        self.resume = resume
        self.begin_timeout = begin_timeout
        self.train_timeout = train_timeout
        self.evaluate_timeout = evaluate_timeout
        self.evaluate = evaluate
        self._wire = WireFormat(dtype=wire_dtype, clip_norm=clip_norm, noise_std=noise_std)
        self._inbox: queue.Queue[Reply] = queue.Queue()
        self._coordinator: Coordinator | None = None
        self._events: EventLog | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Let tensors travel, from the start of a run."""
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.START_RUN:
            fobs.register(TensorDecomposer)

    def run(self) -> None:
        """Run the federation; any failure ends the job with its reason, after what is known has been written."""
        try:
            coordinator = self._open()
            self._begin(coordinator)
            for number in range(coordinator.next_round, self.rounds):
                self._round(coordinator, number)
            evaluations = self._evaluate(coordinator) if self.evaluate else {}
            self._finish(evaluations)
        except RunAborted:
            self._finish({}, error=f"stopped on request; resume with uid {self._uid_of_run()!r}")
        except Exception as error:
            text = str(error) if isinstance(error, FederationError | ValueError) else repr(error)
            if not isinstance(error, FederationError):
                self.exception(f"the federation failed: {text}")
            self._finish({}, error=text)
            self.panic(text)

    def _open(self) -> Coordinator:
        home = Place.of(self.fl_ctx).home
        if self.resume and not self.uid:
            raise FederationError("resume needs the uid of the run to go on with; set both in the job's controller")
        plan = FederationPlan(
            federation=checked_name("federation", self.federation),
            uid=checked_name("uid", self.uid or new_uid()),
            bundle=self.bundle,
            dataset=self.dataset,
            sites=tuple(sorted(self.sites)),
            rounds=self.rounds,
            home=home,
            min_sites=self.min_sites,
            overrides=self.overrides or {},
            wire=self._wire,
        )
        set_torch_threads(self.bundle, self.overrides)
        coordinator = Coordinator(plan, load_method(self.bundle, self.overrides), resume=self.resume)
        if self.resume and coordinator.state is None:
            raise FederationError(
                f"there is nothing to resume under uid {plan.uid!r}: {plan.run_folder} has no round written; "
                "start a new run, with this uid or another, and leave resume out"
            )
        self._coordinator = coordinator
        self._events = EventLog(plan.run_folder / SERVER, SERVER)
        self.info(f"federation {plan.federation}, uid {plan.uid}: state in {plan.run_folder}")
        self._note(
            "federation_started",
            federation=plan.federation,
            uid=plan.uid,
            sites=list(plan.sites),
            rounds=plan.rounds,
            first_round=coordinator.next_round,
            method=coordinator.method.name,
            dataset=plan.dataset,
        )
        return coordinator

    def _begin(self, coordinator: Coordinator) -> None:
        connected = {client.name for client in self.engine.get_clients()}
        absent = [site for site in coordinator.plan.sites if site not in connected]
        if absent:
            raise FederationError(
                f"not connected: {', '.join(absent)}; connected are {', '.join(sorted(connected)) or 'none'}. "
                "Start these sites, or leave them out of the job's sites and deploy_map"
            )
        nothing: dict[str, Packet] = {site: {} for site in coordinator.plan.sites}
        replies = list(self._ask(BEGIN, BEGIN_ROUND, nothing, timeout=self.begin_timeout))
        failed = [r.error if r.site in r.error else f"{r.site}: {r.error}" for r in replies if r.error]
        if failed:
            raise FederationError("nothing was trained:\n  " + "\n  ".join(sorted(failed)))
        coordinator.begin({reply.site: (reply.packet, reply.report) for reply in replies})
        self._note("begun", sites={r.site: {"cases": r.report["cases"]} for r in replies})

    def _round(self, coordinator: Coordinator, number: int) -> None:
        began = time.monotonic()
        self.info(f"round {number + 1} of {self.rounds}")
        self._note("round_started", round=number)
        messages = {site: coordinator.message_for(site) for site in coordinator.plan.sites}
        for reply in self._ask(TRAIN, number, messages, timeout=self.train_timeout):
            if reply.error:
                coordinator.note_missing(reply.site, reply.error)
                self._note("update", round=number, site=reply.site, status="missing", reason=reply.error)
                continue
            accepted = coordinator.receive(reply.site, reply.packet, reply.report)
            self._note(
                "update",
                round=number,
                site=reply.site,
                status="ok" if accepted else "rejected",
                bytes_up=packet_bytes(reply.packet) if accepted else 0,
                metrics=reply.report["metrics"] if accepted else None,
            )
        coordinator.close_round(time.monotonic() - began)
        seconds = round(time.monotonic() - began, 2)
        self.info(f"round {number + 1} of {self.rounds} written after {seconds} s")
        self._note("round_finished", round=number, seconds=seconds)

    def _evaluate(self, coordinator: Coordinator) -> dict[str, Mapping[str, Any]]:
        self.info("evaluation after the last round")
        self._note("evaluation_started")
        packets: dict[str, Packet] = {s: coordinator.evaluation_packet(s) for s in coordinator.plan.sites}
        evaluations: dict[str, Mapping[str, Any]] = {}
        for reply in self._ask(EVALUATE, self.rounds, packets, timeout=self.evaluate_timeout):
            if reply.error:
                coordinator.note_no_scores(reply.site, reply.error)
            scores = None if reply.error else coordinator.read_scores(reply.site, reply.report)
            if scores is None:
                continue
            evaluations[reply.site] = scores
            self._note("evaluated", site=reply.site)
        return evaluations

    def _ask(self, task: str, number: int, packets: Mapping[str, Packet], *, timeout: int) -> Iterator[Reply]:
        """Send every site its own packet and yield one reply a site, as they come in; the silent ones last.

        Raises:
            RunAborted: NVFlare asked to stop.
        """
        assert self._coordinator is not None
        plan = self._coordinator.plan
        ticket = Ticket(federation=plan.federation, uid=plan.uid, round_number=number)
        inbox = self._inbox = queue.Queue()  # a new one, so that what comes late is never taken for this task

        def receiver(site: str) -> Callable[[Any], None]:
            return lambda model: inbox.put(read_reply(site, ticket, model))

        for site, packet in packets.items():
            model = task_model(ticket, packet)
            self.send_model(task, model, targets=[site], timeout=timeout, callback=receiver(site))
        waiting, asked = set(packets), time.monotonic()
        while waiting:
            ended = not self.get_num_standing_tasks()  # asked first: what comes before a task's end is in the inbox
            try:
                reply = self._inbox.get(timeout=0.2)
            except queue.Empty:
                if self.abort_signal.triggered:
                    raise RunAborted from None
                if ended:
                    break
                continue
            if reply.site in waiting:
                waiting.discard(reply.site)
                yield reply
        for site in sorted(waiting):
            yield Reply(site=site, error=f"no answer within {time.monotonic() - asked:.0f} s")

    def _accept_train_result(
        self, client_name: str, result: Shareable, fl_ctx: FLContext, is_unknown_task: bool = False
    ) -> bool:
        """Note NVFlare's own error codes, which no callback is told of."""
        code = result.get_return_code()
        if code and code != ReturnCode.OK and not is_unknown_task:
            reason = f"{_REASONS.get(code, 'NVFlare could not do the task')} ({code}); the site's log says more"
            self._inbox.put(Reply(site=client_name, error=reason))
        return bool(super()._accept_train_result(client_name, result, fl_ctx, is_unknown_task))

    def _finish(self, evaluations: Mapping[str, Mapping[str, Any]], *, error: str = "") -> None:
        """Write ``result.json`` where the run's state is, and beside the job's logs, from where it is downloaded."""
        copy = Path(self.get_run_dir()) / RESULT
        if self._coordinator is None:  # nothing was begun: an earlier run's result is not ours to replace
            write_json(copy, {"format": 1, "completed": False, "error": error, "federation": self.federation})
            return
        result = self._coordinator.finish(evaluations, completed=not error, error=error)
        shutil.copyfile(self._coordinator.store.folder / RESULT, copy)
        self._note("finished", completed=not error, error=error, rounds_done=result["rounds_done"])
        self.info(f"{result['rounds_done']} of {self.rounds} rounds done; {RESULT} written to {copy}")

    def _uid_of_run(self) -> str:
        return self._coordinator.plan.uid if self._coordinator else self.uid

    def _note(self, event: str, **fields: Any) -> None:
        if self._events is not None:
            self._events.write(event, **fields)
