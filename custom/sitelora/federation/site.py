"""One site of a federation: its data, its bundle, its private state, and the three things it is asked to do."""

from __future__ import annotations

import logging
import time
from functools import cached_property

import torch
from torch import nn

from sitelora.data.check import check_site_folder
from sitelora.data.site_folder import DATALIST, SiteFolder
from sitelora.disk import file_sha256
from sitelora.evaluation.anonymise_scores import to_columns
from sitelora.evaluation.site_pictures import draw_cases
from sitelora.federation.begin_report import begin_report, identity_of, require_same_run, served_model
from sitelora.federation.border import Border
from sitelora.federation.build_network import load_model, partition_of, save_merged
from sitelora.federation.bundle_config import FEDERATED, data_needs
from sitelora.federation.files import new_folder, write_json
from sitelora.federation.identity import site_secret
from sitelora.federation.local_round import LocalRound, Progress
from sitelora.federation.model_kinds import UNSEEN, personal_model, serve
from sitelora.federation.one_base import OneBase
from sitelora.federation.packets import Received, accumulate, unpack_evaluation
from sitelora.federation.run_data import data_hmac, require_untrained
from sitelora.federation.run_folder import EVALUATION, OVERLAYS, PREDICTIONS, RunFolder
from sitelora.federation.served import (
    PREVIOUS,
    RECEIVED,
    TRAINED,
    Candidate,
    Served,
    choose,
    from_tensors,
    to_tensors,
)
from sitelora.federation.site_scores import SiteScores
from sitelora.federation.site_settings import Answer, SiteSettings, require_usable
from sitelora.federation.site_trainer import trainer_of
from sitelora.federation.state import Damaged, SiteState, SiteStore, StoredRound
from sitelora.federation.together import Together
from sitelora.federation.turns import Turns
from sitelora.method import Model
from sitelora.server.types import ANY_SITE
from sitelora.serving.model_file import DECISION
from sitelora.sharing.wire import Packet, difference, packet_sha256
from sitelora.typed_json import to_json

logger = logging.getLogger(__name__)

EXPORTED = ("global", "unseen")
"""Models that are kept beside the personal one."""
AFTER_THE_LAST = 10**9
"""A round number after all others, for the state that the last finished round left."""
_Done = tuple[StoredRound, Packet]


class Site:
    """A site as plain Python; NVFlare's executor and the in-process federation both hold one.

    Args:
        settings: of the site. one_base: what it holds together with other sites of this process.

    Raises:
        SiteDataError: the site folder is missing or its data is not fit for training.
        ValueError, FileNotFoundError: the bundle or its base checkpoint is not usable.
        SiteError, SettingsError: as of ``require_usable``.
    """

    def __init__(self, settings: SiteSettings, *, one_base: OneBase | None = None) -> None:
        self.settings = settings
        self._one_base = one_base or OneBase()
        self.folder = SiteFolder.read(settings.data)
        settings.run.require_base()
        self._parser = settings.run.parser(ours={**FEDERATED, "dataset_dir": str(settings.data)})
        require_usable(settings, self._parser)
        torch.set_num_threads(int(self._parser.get_parsed_content("torch_threads")))
        self.method, self.task = settings.run.method, settings.run.task
        self._served: tuple[str, Served] | None = None
        self.together: Together | None = None  # where this process is a follower of the site's own
        self.trained: Model | None = None  # of the last validated round, before the server made anything of it
        self.store = SiteStore(settings.run_folder / settings.site)
        self.turns = Turns(site=settings.site, store=self.store, rounds=settings.rounds, missed=settings.missed)

    @cached_property
    def network(self) -> nn.Module:
        """The adapted network, built at first use."""
        network = self._parser.get_parsed_content("network")
        assert isinstance(network, nn.Module)
        return self._one_base.adopt(network)

    @cached_property
    def scores(self) -> SiteScores:
        """What scores models here, over the network."""
        return SiteScores(self.network, self.folder, self.settings.run, one_base=self._one_base)

    @cached_property
    def local_round(self) -> LocalRound:
        """The trainer of this site, built at first use."""
        return trainer_of(self.settings, self._parser, self.network, together=self.together)

    @cached_property
    def border(self) -> Border:
        """Where messages come in and answers leave, made at first use from the network that the site has."""
        return Border(
            settings=self.settings,
            method=self.method,
            folder=self.store.folder,
            initial=self.local_round.initial,
            shared=partition_of(self.network).shared,
        )

    def begin(self) -> Answer:
        """Check data, bundle and base; return hashes, counts and the seeded initial shared tensors.

        Raises:
            SiteDataError: with every problem of the data.
        """
        needs = data_needs(self.settings.bundle, self._parser)
        check_site_folder(self.settings.data, needs=needs).raise_if_bad()
        last, secret = self.store.latest_number(), site_secret(self.settings.home)
        require_untrained(self.folder, self.store.folder, secret, resumed=last is not None)
        initial_sha256 = self.border.exit.initial_sha256
        report = begin_report(self.settings, self.folder, self._parser, self.network, initial_sha256)
        data = data_hmac(self.folder, secret, federation=self.settings.federation, uid=self.settings.uid)
        return self.border.begin({**report, "data_hmac": data, "last_round": last})

    def train(self, round_number: int, packet: Packet, *, progress: Progress | None = None) -> Answer:
        """Do one round: or return the stored update if this very round was done from this very message.

        Raises:
            SiteError: it is not this round's turn. EpsilonSpentError: the site's budget ends before it.
            PacketError: the message is not what the method expects.
            EgressError, SchemaError: the answer holds something that may not leave.
            TrainingError: training left the finite numbers.
        """
        key = packet_sha256(packet)
        stored = self.store.generation(round_number)
        if stored is not None and stored.manifest["message_sha256"] == key:
            logger.info("site %s: round %d is done, sending its update again", self.settings.site, round_number)
            return self.border.round(round_number, stored.update(), stored, seconds=0.0, resent=True)
        self.turns.require_round(round_number)
        self.border.exit.require_budget(round_number)
        began = time.monotonic()
        done, tensors = self._round(round_number, packet, progress)
        return self.border.round(round_number, tensors, done, seconds=round(time.monotonic() - began, 2), resent=False)

    def mend(self, *, progress: Progress | None = None) -> list[int]:
        """Do the last rounds again, to the same bits, whose files are damaged; nothing leaves. Returns their numbers.

        Raises:
            DamagedStateError: the message that one was done from is damaged too, or it came out as another round.
        """
        damaged = self.store.damaged()
        for one in damaged:
            logger.warning("site %s: %s; this round is done again", self.settings.site, one.found)
            self._round(one.number, one.message, progress, one)
        return [one.number for one in damaged]

    def evaluate(self, packet: Packet) -> Answer:
        """Score every served model on this site's test cases; write overlays and the personal checkpoint here.

        The scores of this very message are sent again; of another one there are none.

        Args:
            packet: from ``Coordinator.evaluation_packet``, after the last round.

        Raises:
            SiteError: the last planned round is not done here, or another message was scored.
        """
        started = time.monotonic()
        site, key = self.settings.site, (packet_sha256(packet), file_sha256(self.folder.path / DATALIST))
        if (done := self.turns.scores_of(*key)) is not None:
            return self.border.scores(self.turns.evaluation_round, done)
        models = self.served_models(packet)
        served = self.served(packet)
        personal = served.candidate.model
        place = RunFolder(self.settings.run_folder)
        with new_folder(place.evaluation(site)) as new:
            predictions = new / PREDICTIONS
            self.scores.test(personal, self.folder, keep_predictions=predictions)
            results = {
                kind: {"not_applicable": model}
                if isinstance(model, str)
                else self.scores.test(model, self.folder, fitted=kind != UNSEEN)
                for kind, model in models.items()
            }
            results["personal"] = {**results["personal"], "served": served.to_json()}
            drawn = draw_cases(
                results["personal"],
                self.task,
                self.folder,
                predictions,
                out=new / OVERLAYS,
                explained=self.scores.explained(personal),
            )
            write_json(new / EVALUATION, {**to_json(self.task.scoring), **results, "overlays": drawn})
        others = {kind: model for kind, model in models.items() if kind in EXPORTED and isinstance(model, Model)}
        made = served_model(self.settings, self.folder, self._parser, self.network, served=served.to_json())
        for kind, model in {**others, "personal": personal}.items():  # the personal one last: it stays loaded
            decision = self.scores.decision(model) if kind != UNSEEN else None
            fitted = {} if decision is None else {DECISION: decision}
            load_model(self.network, model)
            save_merged(self.network, place.model(site, kind), made={**made, **fitted, "kind": kind})
        report = {**to_columns(results, self.folder.labels), "seconds": round(time.monotonic() - started, 2)}
        answer = self.border.scores(self.turns.evaluation_round, report)
        self.turns.keep_scores(answer.report, *key)
        return answer

    def served_models(self, packet: Packet) -> dict[str, Model | str]:
        """Return every model by kind (base, global, personal, unseen), or why there is none; as for `evaluate`."""
        own, other = unpack_evaluation(packet)
        received, unseen_site = self.border.read(own, self.settings.site), self.border.read(other, ANY_SITE)
        models = serve(
            self.method,
            partition_of(self.network),
            received=received,
            unseen_site=unseen_site,
            state=self._state_before(AFTER_THE_LAST, received),
            initial=self.local_round.initial,
        )
        return {**models, "personal": self.served(packet).candidate.model}

    def served(self, packet: Packet) -> Served:
        """Return which model this site is served after the last round, chosen by its own validation cases.

        Args:
            packet: as for `evaluate`.
        """
        key = packet_sha256(packet)
        if self._served is None or self._served[0] != key:
            received = self.border.read(unpack_evaluation(packet)[0], self.settings.site)
            state = self._state_before(AFTER_THE_LAST, received)
            model = personal_model(self.method, received.values, state)
            number = self.turns.evaluation_round
            last = self._received(model, number)
            fresh = state.served_as.get("kind") == TRAINED and state.served_as["round"] == number - 1
            kept = self._kept(state, TRAINED if fresh else PREVIOUS)
            kept = [candidate for candidate in kept if candidate.kind != last.kind]
            self._served = (key, choose([last, *kept], primary=self.task.primary, best=state.served_as.get("best", ())))
        return self._served[1]

    def _round(self, number: int, packet: Packet, progress: Progress | None, again: Damaged | None = None) -> _Done:
        """Do one round from a message and the state before it; return it as written, and what it gives for the wire."""
        received = self.border.read(packet, self.settings.site, before=number)
        state = self._state_before(number, received)
        had, before = self._kept(state, PREVIOUS), None
        if self._validates(number) or not had:
            before = self._received(personal_model(self.method, received.values, state), number)
        given = {"received": received.values, "companions": received.companions}
        outcome = self.local_round.run(number, **given, state=state, progress=progress)
        metrics: dict[str, float | None] = {**outcome.metrics}
        if before is not None:
            model = personal_model(self.method, {**received.values, **outcome.trained}, outcome.state)
            cases, self.trained = self.scores.validation(model), model
            after = Candidate(kind=TRAINED, model=model, round_number=number, cases=cases)
            served = choose([after, before, *had], primary=self.task.primary, best=state.served_as.get("best", ()))
            outcome.state.served = to_tensors(served.candidate.model)
            outcome.state.served_as = served.kept()
            metrics.update(score_received=before.score, score_personal=after.score)
        metrics["score_served"] = outcome.state.served_as["score"]
        companions = {f"@{name}": tensor for name, tensor in outcome.companions.items()}
        tensors = {**difference(outcome.trained, received.values), **companions}
        told = {name: value for name, value in metrics.items() if value is not None}
        key, report = packet_sha256(packet), {"cases": self.folder.case_counts()["training"], "metrics": told}
        manifest = {"message_sha256": key, "report": report, **identity_of(self.settings, self.network)}
        return self.store.write(number, outcome.state, tensors, manifest, message=packet, again=again), tensors

    def _validates(self, round_number: int) -> bool:
        """Say whether a round's models are scored on the validation cases: every so many rounds, and in the last."""
        every, rounds = int(self._parser.get("validate_every", 1)), self.settings.rounds
        return rounds is None or round_number + 1 >= rounds or (round_number + 1) % every == 0

    def _received(self, model: Model, number: int) -> Candidate:
        """Return what a site has before a round as a candidate; where nothing is shared it was trained here before."""
        cases = self.scores.validation(model)
        if number and not partition_of(self.network).shared:
            return Candidate(kind=TRAINED, model=model, round_number=number - 1, cases=cases)
        return Candidate(kind=RECEIVED, model=model, round_number=number, cases=cases)

    def _kept(self, state: SiteState, kind: str) -> list[Candidate]:
        """Return the model that the site is served so far as a candidate of this kind; none before the first round."""
        if not state.served:
            return []
        model = from_tensors(state.served, self.method.serving.strengths_of("personal"))
        noted = state.served_as
        return [Candidate(kind=kind, model=model, round_number=noted["round"], cases=tuple(noted["cases"]))]

    def _state_before(self, round_number: int, received: Received) -> SiteState:
        stored = self.store.latest_before(round_number)
        state = stored.state() if stored is not None else self.local_round.fresh_state()
        if stored is not None:
            require_same_run(self.settings, self.network, stored)
        for number in sorted(received.deltas.keys() - {*state.delta_rounds}):
            state.delta = accumulate(state.delta, received.deltas[number])
            state.delta_rounds.append(number)
        return state
