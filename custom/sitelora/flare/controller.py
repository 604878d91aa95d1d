"""A federation as one NVFlare workflow: begin, one message a site and round, evaluation, ``result.json``.

All that is decided is decided by the plain-Python coordinator; this is its transport. Success is positive: only a
``result.json`` that says so means that all rounds ran, because NVFlare may exit with 0 when nothing was trained.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext

from sitelora.federation.bundle_config import set_torch_threads
from sitelora.federation.coordinator import Coordinator, FederationError
from sitelora.federation.events import EventLog
from sitelora.federation.files import write_json
from sitelora.federation.identity import BEGIN_ROUND, new_uid
from sitelora.federation.job import Job
from sitelora.federation.plan import FederationPlan
from sitelora.federation.refusals import PASSING
from sitelora.federation.run_folder import RESULT, SERVER, RunFolder
from sitelora.federation.run_lock import RunningError, end_on_request, working
from sitelora.federation.task_names import BEGIN, EVALUATE, TRAIN
from sitelora.federation.ticket import Ticket
from sitelora.flare.asking import AskingController, RunAborted
from sitelora.flare.protocol import Reply
from sitelora.flare.sealed_tensors import register_tensors
from sitelora.flare.site_config import SiteConfig, read_job, refuse_arguments
from sitelora.flare.taking_turns import turns_at_server, workspace_of_simulator
from sitelora.flare.tracking import Tracking
from sitelora.run_result import ModelScore, RunResult
from sitelora.sharing.wire import Packet, packet_bytes
from sitelora.simulator.run_workers import RunWorkers
from sitelora.typed_json import to_json


class FederationController(AskingController):
    """Drives a federation through NVFlare; what it is to do stands in the job's ``config/sitelora.json``.

    Args:
        unexpected: arguments that a job gives it although there are none. Taken only to be refused in ``run``, where
            the reason reaches ``result.json``: NVFlare tells of a constructor that fails in its log alone.
    """

    def __init__(self, /, **unexpected: object) -> None:
        super().__init__()
        self._unexpected = tuple(unexpected)
        self._job: Job | None = None
        self._coordinator: Coordinator | None = None
        self._events: EventLog | None = None
        self._tracking: Tracking | None = None
        self._last_event = ""
        self._held = ExitStack()
        self._workers: RunWorkers | None = None

    @property
    def job(self) -> Job:
        """What the job says."""
        assert self._job is not None
        return self._job

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Let tensors travel, from the start of a run; where sites take turns, the run has workers until its end."""
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.START_RUN:
            register_tensors(only_passed_on=False)
            end_on_request()
            at_a_time = turns_at_server(fl_ctx)
            if at_a_time:
                self._workers = RunWorkers(workspace_of_simulator(fl_ctx), at_a_time)
        elif event_type == EventType.END_RUN and self._workers is not None:
            self._workers.close()

    def run(self) -> None:
        """Run the federation; any failure ends the job with its reason, after what is known has been written."""
        with self._held:
            self._run()
        if self._tracking is not None:
            self._tracking.end(self.fl_ctx)

    def _run(self) -> None:
        try:
            coordinator = self._open()
            self._begin(coordinator)
            for number in range(coordinator.next_round, self.job.rounds):
                self._round(coordinator, number)
            evaluations = self._evaluate(coordinator) if self.job.evaluate else {}
            self._finish(evaluations)
        except RunAborted:
            self._finish({}, error=self._stopped())
        except Exception as error:
            told = isinstance(error, FederationError | RunningError | ValueError | OSError)
            text = str(error) if told else repr(error)
            if not isinstance(error, FederationError):
                self.exception(f"the federation failed: {text}")
            try:
                self._finish({}, error=text)
            except OSError as full:  # the very disk that is full: NVFlare has the reason, and the run its rounds
                self.error(f"no result could be written: {full}")
            self.panic(text)

    def _open(self) -> Coordinator:
        refuse_arguments(self._unexpected)
        own = SiteConfig.of(self.fl_ctx)
        job = read_job(self.fl_ctx)
        self._job = job = job if job.uid else replace(job, uid=new_uid())
        settings = job.run_settings(own_methods=own.methods, site_values=own.values)
        plan = FederationPlan.of(job, settings, home=own.home)
        set_torch_threads(settings)
        run = RunFolder(plan.run_folder)
        events = EventLog(run.server, SERVER)
        self._held.enter_context(working(run.lock(SERVER), f"{run.path}", stopped=events.stopped))
        self._tracking = Tracking(job.tracking, self.fl_ctx)
        coordinator = Coordinator(plan, settings.method, settings.task, resume=job.resume)
        if job.resume and coordinator.state is None:
            raise FederationError(
                f"there is nothing to resume under uid {plan.uid!r}: {plan.run_folder} has no round written; "
                "start a new run, with this uid or another, and leave resume out"
            )
        self._coordinator = coordinator
        self._events = events
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
            primary=to_json(coordinator.task.primary),
        )
        return coordinator

    def _begin(self, coordinator: Coordinator) -> None:
        connected = {client.name for client in self.engine.get_clients()}
        there = ", ".join(sorted(connected)) or "none"
        failed = {
            site: f"{site}: not connected; connected are {there}. Start it, or leave it out of the job's sites and its "
            "deploy_map"
            for site in coordinator.plan.sites
            if site not in connected
        }
        if len(connected & {*coordinator.plan.sites}) < coordinator.plan.min_sites:
            raise FederationError("nothing was trained: " + "\n  ".join(failed.values()))
        nothing: dict[str, Packet] = {site: {} for site in coordinator.plan.sites if site in connected}
        replies = list(self._ask(BEGIN, BEGIN_ROUND, nothing, timeout=self.job.begin_timeout))
        failed.update({r.site: r.error if r.site in r.error else f"{r.site}: {r.error}" for r in replies if r.error})
        answers = {reply.site: (reply.packet, reply.report) for reply in replies if not reply.error}
        left_out = coordinator.begin(answers, failed)
        for site, reason in left_out.items():
            self.warning(f"{site} is left out of this run: {reason}")
            self._note("left_out", site=site, reason=reason)
        self._note("begun", sites={site: {"cases": answers[site][1]["cases"]} for site in coordinator.sites})

    def _round(self, coordinator: Coordinator, number: int) -> None:
        began = time.monotonic()
        self.info(f"round {number + 1} of {self.job.rounds}")
        self._note("round_started", round=number)
        messages = {site: coordinator.message_for(site) for site in coordinator.sites}
        for reply in self._ask(TRAIN, number, messages, timeout=self.job.train_timeout):
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
                reason="" if accepted else coordinator.record.reason(number, reply.site),
                bytes_up=packet_bytes(reply.packet) if accepted else 0,
                metrics=reply.report["metrics"] if accepted else None,
            )
        for site, reason in coordinator.close_round(time.monotonic() - began).items():
            self._note("update", round=number, site=site, status="rejected", reason=reason, bytes_up=0, metrics=None)
        if self._tracking is not None:
            self._tracking.note(coordinator.record.rounds[number], self.fl_ctx)
        seconds = round(time.monotonic() - began, 2)
        self.info(f"round {number + 1} of {self.job.rounds} written after {seconds} s")
        self._note("round_finished", round=number, seconds=seconds)

    def _evaluate(self, coordinator: Coordinator) -> dict[str, Mapping[str, ModelScore]]:
        self.info("evaluation after the last round")
        self._note("evaluation_started")
        packets: dict[str, Packet] = {s: coordinator.evaluation_packet(s) for s in coordinator.sites}
        evaluations: dict[str, Mapping[str, ModelScore]] = {}
        for reply in self._ask(EVALUATE, self.job.rounds, packets, timeout=self.job.evaluate_timeout):
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
        for reply in self.ask(task, ticket, packets, timeout=timeout):
            record = self._coordinator.record
            record.lost.update(self.presence.lost())
            record.short.update({reply.site} if reply.code in PASSING else ())
            yield reply

    def note_silent(self, site: str, reason: str) -> None:
        """Say in the events that a site gives no sign of life."""
        self._note("silent", site=site, reason=reason)

    def _stopped(self) -> str:
        """Return why NVFlare ended the job: on request, or because a site's process died, which it does not tell."""
        go_on = f"resume with uid {self._uid_of_run()!r}"
        coordinator = self._coordinator
        if coordinator is None:
            return "stopped on request"
        gone = self.without_a_word(coordinator.sites)
        never = self.presence.never_heard(coordinator.sites)
        if self._last_event == "federation_started" and never and not gone:
            return (
                f"NVFlare ended the job before it had begun, and {', '.join(never)} never answered: either it was "
                "stopped on request, or there the job was refused (the site's policy or class list) or its process "
                "did not start; the job's log at the site says which"
            )
        if not gone:
            return f"stopped on request; {go_on}"
        coordinator.record.lost.update(gone)
        last = ", ".join(f"{site} (last sign of life {self.presence.seconds_since(site):.0f} s ago)" for site in gone)
        return (
            f"NVFlare ended the job, and there is no word from {last}: its process has ended (killed, out of memory, "
            f"machine off), or cannot be reached; its own log says more. When it is back, {go_on}"
        )

    def _finish(self, evaluations: Mapping[str, Mapping[str, ModelScore]], *, error: str = "") -> None:
        """Write ``result.json`` where the run's state is, and beside the job's logs, from where it is downloaded."""
        copy = Path(self.get_run_dir()) / RESULT
        if self._coordinator is None:  # nothing was begun: an earlier run's result is not ours to replace
            name = self._job.federation if self._job else ""
            write_json(copy, RunResult(error=error, federation=name).to_json())
            return
        result = self._coordinator.finish(evaluations, completed=not error, error=error)
        shutil.copyfile(self._coordinator.store.folder / RESULT, copy)
        if error:
            self._note("stopped", reason=error)
        self._note("finished", completed=not error, error=error, rounds_done=result.rounds_done)
        self.info(f"{result.rounds_done} of {self.job.rounds} rounds done; {RESULT} written to {copy}")

    def standing(self) -> Mapping[str, Any]:
        """Return where the run stands, for `sitelora run` and NVFlare's statistics: numbers and names of its own."""
        coordinator = self._coordinator
        if coordinator is None:
            return {}
        begun = coordinator.state is not None
        done = coordinator.next_round
        return {"begun": begun, "doing": self._last_event, "rounds_done": done, "rounds": coordinator.plan.rounds}

    def _uid_of_run(self) -> str:
        return self._coordinator.plan.uid if self._coordinator else ""

    def _note(self, event: str, **fields: Any) -> None:
        self._last_event = event
        if self._events is not None:
            self._events.write(event, **fields)
