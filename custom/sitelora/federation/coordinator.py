"""The server's side of a federation, plain Python: begin, one message a site, check, aggregate, write, go on.

It keeps fp32 copies of what it sent, adds the sites' differences to them, and needs no base of its own. NVFlare's
controller and the in-process federation both hold one, so both end with the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from sitelora.federation.agreement import changed_since, worth_saying
from sitelora.federation.arrivals import Arrivals
from sitelora.federation.bounds import OutOfBounds
from sitelora.federation.departures import require_sendable
from sitelora.federation.packets import pack_evaluation, pack_message
from sitelora.federation.plan import FederationPlan
from sitelora.federation.receipts import TakenUpdates, note_received
from sitelora.federation.record import NO_SCORES, FederationRecord
from sitelora.federation.roll_call import RollCallError, call_the_roll
from sitelora.federation.run_folder import RunFolder
from sitelora.federation.server_state import ServerState, ServerStore
from sitelora.method import Method
from sitelora.run_result import ModelScore, RunResult
from sitelora.server.aggregation import EQUAL
from sitelora.server.aggregation_error import round_numbers
from sitelora.server.robust import norms_of
from sitelora.server.types import ANY_SITE, Message, Messages, Update
from sitelora.sharing.accounting import noise_norm
from sitelora.sharing.codecs import codecs_down, codecs_up, growth
from sitelora.sharing.schema import SchemaError
from sitelora.sharing.wire import Packet, PacketError, cast, packet_bytes, packet_sha256
from sitelora.task import Task

logger = logging.getLogger(__name__)


class FederationError(RuntimeError):
    """The federation cannot go on; what it has is written."""


class Coordinator:
    """Drives one federation; every public method is one step of it.

    Args:
        plan: what is run. method, task: of the plan's bundle.
        resume: go on after the last round that was written for this uid.
    """

    def __init__(self, plan: FederationPlan, method: Method, task: Task, *, resume: bool = False) -> None:
        method.require_federated(plan.sites)
        self.plan = plan
        self.method, self.task = method, task
        self.rule = method.server_rule(plan.aggregation)
        self.sites = plan.sites
        self.store = ServerStore(RunFolder(plan.run_folder).server)
        self.state = self.store.load() if resume else None
        self._resumed = self.state is not None
        if not resume and self.store.exists():
            raise FederationError(
                f"{plan.run_folder} exists; resume it with its uid {plan.uid!r}, or start a run with another uid"
            )
        if plan.rounds < self.next_round:
            raise FederationError(
                f"uid {plan.uid!r} has {self.next_round} rounds written and the job plans {plan.rounds}; plan at least "
                f"{self.next_round}, or take another uid"
            )
        self.record = FederationRecord(plan, method, task)
        if self.state is not None:
            self.record.restore(self.state.history)
            for found in self.store.damaged:
                logger.warning("%s; gone back to the state after round %d", found, self.next_round)
                self.record.warn("the server's newest state was damaged: the run went on from the one before")
        self._arrivals = Arrivals(method=method, task=task, wire=plan.wire)
        self._updates: dict[str, Update] = {}
        self._norms: dict[str, dict[str, float]] = {}
        self._hashes: dict[str, str] = {}
        self._taken = TakenUpdates(RunFolder(plan.run_folder), rounds=self.next_round)
        self._cut: set[str] = set()
        self._bytes_down: dict[str, int] = {}

    @property
    def next_round(self) -> int:
        """The first round that is not written yet."""
        return self.state.round_number + 1 if self.state is not None else 0

    def begin(
        self, answers: Mapping[str, tuple[Packet, Mapping[str, Any]]], failed: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Take the sites that agree, leave the others out by name, and keep one copy of the initial shared tensors.

        Args:
            answers: by site: the initial packet as it came over the wire, and the site's report.
            failed: why other sites have no answer.

        Returns:
            Why sites are left out, by name; they take no part until the run is resumed.

        Raises:
            FederationError: fewer than ``min_sites`` are left, or no majority says alike; with what is wrong and whose.
        """
        behind = self._behind(answers)
        there = {site: answer for site, answer in answers.items() if site not in behind}
        try:
            called = call_the_roll(self.plan, self._arrivals, there, {**(failed or {}), **behind})
        except RollCallError as error:
            raise FederationError(str(error)) from error
        reports, initial = called.reports, called.initial
        if self._resumed:
            self._require_same_run(reports)
        shapes = {name: list(tensor.shape) for name, tensor in initial.items()}
        self.record.note_begin(reports, {site: packet_bytes(answers[site][0]) for site in reports}, shapes)
        for site, reason in called.left_out.items():
            logger.warning("begin: left out: %s", reason)
            self.record.warn(f"begin: {site} left out of this run: {reason}")
        self.sites = tuple(reports)
        if self.state is None:
            self.state = ServerState(
                round_number=-1, messages={ANY_SITE: Message(values=initial)}, history=self.record.history()
            )
            self.store.write(self.state)
        return called.left_out

    def message_for(self, site: str) -> dict[str, Tensor]:
        """Return the packet that a site must load before the next round; ``ANY_SITE`` for one never seen."""
        state = self._begun()
        message = state.message_for(site)
        codecs = codecs_down(self.method.ranks, self.plan.wire, site)
        return pack_message(message.values, message.companions, state.deltas_for(site), codecs)

    def evaluation_packet(self, site: str) -> dict[str, Tensor]:
        """Return what a site needs to score all models: its message, and what a site never seen would get."""
        return pack_evaluation(self.message_for(site), self.message_for(ANY_SITE))

    def receive(self, site: str, packet: Packet, report: Mapping[str, Any]) -> bool:
        """Take a site's update for the round in progress; a bad one is rejected by name and the round goes on.

        Returns:
            Whether the update was accepted.
        """
        state = self._begun()
        round_number = self.next_round
        try:
            if site not in self.plan.sites:
                raise PacketError(f"{site}: not a site of this federation ({', '.join(self.plan.sites)})")
            if site in self._updates:
                raise PacketError(f"{site}: a second update for this round; the first one stays")
            sent_to_it, began = state.message_for(site).values, self.record.began(site)
            update, said = self._arrivals.update(
                site, packet, report, round_number=round_number, sent_to_it=sent_to_it, began=began
            )
            norms = norms_of(update)
            noise = noise_norm(self.plan.wire.absolute_noise, sum(each.numel() for each in sent_to_it.values()))
            longer = growth(codecs_up(self.method.ranks, self.plan.wire, site))
            self.plan.bounds.require_norm(site, norms, noise=noise, growth=longer)
            self._hashes[site] = packet_sha256(packet)
            self._taken.require_new(site, self._hashes[site], moved=any(norms.values()))
        except (PacketError, SchemaError, OutOfBounds) as error:
            logger.warning("round %d: update rejected: %s", round_number, error)
            if site in self.plan.sites and site not in self._updates:
                self.record.note_site(round_number, site, "rejected", str(error), {}, 0)
            else:
                self.record.warn(f"round {round_number + 1}: {error}")
            return False
        self._updates[site], self._norms[site] = update, norms
        # Before the site's base deltas count as received: the message that it trained from held them.
        self._bytes_down.setdefault(site, packet_bytes(self.message_for(site)))
        state.acknowledge(site)
        note_received(RunFolder(self.plan.run_folder), site, round_number, packet, self._hashes[site])
        self.record.note_site(round_number, site, "ok", "", said, packet_bytes(packet))
        return True

    def read_scores(self, site: str, report: Mapping[str, Any]) -> dict[str, ModelScore] | None:
        """Return a site's evaluation, by model kind; None if what it reports is none, which the record then says."""
        try:
            return self._arrivals.scores(site, report, began=self.record.began(site))
        except (SchemaError, PacketError) as error:
            self.note_no_scores(site, str(error))
            return None

    def note_no_scores(self, site: str, reason: str) -> None:
        """Note that a site's models were not scored."""
        logger.warning("no evaluation from %s: %s", site, reason)
        self.record.warn(f"{NO_SCORES}{site} missing: {reason}")

    def note_missing(self, site: str, reason: str) -> None:
        """Note that a site sent nothing for the round in progress."""
        logger.warning("round %d: no update from %s: %s", self.next_round, site, reason)
        self.record.note_site(self.next_round, site, "missing", reason, {}, 0)

    def close_round(self, seconds: float) -> dict[str, str]:
        """Judge the updates beside each other, aggregate what stays, write the round and make it current.

        Returns:
            Why updates were rejected only now, by site.

        Raises:
            FederationError: fewer updates than ``min_sites``, or a server rule that made what no site would take; the
                rounds before stay written.
        """
        state = self._begun()
        round_number = self.next_round
        for site in sorted({*self.plan.sites} - {*self.sites}):
            if not self.record.reason(round_number, site):
                self.record.note_site(round_number, site, "missing", f"{site}: left out when the run began", {}, 0)
        outliers = self.plan.bounds.outliers(self._norms)
        for site, reason in outliers.items():
            logger.warning("round %d: update rejected: %s", round_number, reason)
            self.record.note_site(round_number, site, "rejected", reason, {}, 0)
        updates = {site: self._updates[site] for site in sorted(self._updates) if site not in outliers}
        if len(updates) < self.plan.min_sites:
            reasons = self.record.reasons(round_number)
            raise FederationError(
                f"round {round_number + 1}: {len(updates)} usable updates, min_sites is {self.plan.min_sites}"
                f"{': ' + reasons if reasons else ''}. Rounds before it are written: mend the sites and resume "
                f"uid {self.plan.uid!r}"
            )
        counted = dict.fromkeys(updates, 1)
        if self.plan.aggregation.weights != EQUAL:
            counted = self.plan.bounds.counted({site: update.cases for site, update in updates.items()})
            self._say_cut(counted)
        updates = {site: replace(update, cases=counted[site]) for site, update in updates.items()}
        messages, rule_state = self.rule(updates, state.rule_state, round_number)
        self._require_sendable(messages, round_number)
        down = {site: self._bytes_down.get(site) or packet_bytes(self.message_for(site)) for site in self.sites}
        numbers, details = round_numbers(self.rule, updates, messages)
        norms = {site: float(f"{self._norms[site]['']:.4g}") for site in updates}
        self.record.close_round(round_number, seconds, down, server=numbers, details={**details, "norms": norms})
        self.state = state.after(round_number, messages, rule_state, history=self.record.history())
        self.state.forget_deltas(self.sites)
        self.store.write(self.state)
        for site in updates:
            self._taken.note(site, self._hashes[site])
        self._updates, self._norms, self._hashes = {}, {}, {}
        self._bytes_down = {}
        return outliers

    def finish(
        self, evaluations: Mapping[str, Mapping[str, ModelScore]], *, completed: bool, error: str = ""
    ) -> RunResult:
        """Write ``result.json``: the positive proof that all rounds ran, with every number of the run."""
        fingerprint = None
        if self.state is not None:
            fingerprint = packet_sha256(cast(self.state.tensors(), self.plan.wire.torch_dtype))
        result = self.record.result(evaluations, completed=completed, error=error, fingerprint=fingerprint)
        self.store.write_result(result)
        return result

    def _say_cut(self, counted: Mapping[str, int]) -> None:
        """Say once whose cases count less than the site said, and why."""
        for site in sorted(counted.keys() - self._cut):
            if counted[site] < self._updates[site].cases:
                self._cut.add(site)
                share = self.plan.bounds.largest_share
                said = self._updates[site].cases
                self.record.warn(
                    f"{site}: of its {said} cases {counted[site]} count: bounds.largest_share is {share}, so that no "
                    "site has more of the weight"
                )

    def _require_sendable(self, messages: Messages, round_number: int) -> None:
        before, companions = self._begun().message_for(ANY_SITE), self.method.program.companions
        wire = self.plan.wire.torch_dtype
        try:
            require_sendable(messages, before, companions=companions, rule=self.rule, wire=wire)
        except PacketError as error:
            raise FederationError(
                f"round {round_number + 1}: the server rule of {self.method.name} made what no site would take, "
                f"nothing was sent: {error}. Rounds before it are written"
            ) from error

    def _require_same_run(self, reports: Mapping[str, Mapping[str, Any]]) -> None:
        began = self.record.history()["begin"]
        changed = changed_since(next(iter(began.values())), next(iter(reports.values())))
        if changed:
            raise FederationError(
                f"uid {self.plan.uid!r} cannot be resumed like this, nothing was trained:\n  "
                + "\n  ".join(changed)
                + "\n  -> resume with the version, bundle, settings, wire and base of the run, or take another uid"
            )
        for line in worth_saying(began, reports, self.record.answered()):
            self.record.warn(line)

    def _behind(self, sites: Iterable[str]) -> dict[str, str]:
        """Return why sites cannot take part in a resumed run: what the others have beside their bases is gone here."""
        reason = (
            "was not there while base deltas were sent that are no longer kept, so its base would be another than "
            "the others': it can take part in a run with another uid"
        )
        return {site: f"{site}: {reason}" for site in sites if self.state is not None and self.state.is_behind(site)}

    def _begun(self) -> ServerState:
        if self.state is None:
            raise FederationError("begin comes first")
        return self.state
