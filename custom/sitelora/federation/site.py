"""One site of a federation: its data, its bundle, its private state, and the three things it is asked to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sitelora
from sitelora.data.check import check_site_folder
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.cases import evaluate_cases
from sitelora.evaluation.numbered import numbered
from sitelora.evaluation.site_pictures import draw_cases
from sitelora.federation.adapted import load_model, model_sha256, partition_of, save_merged
from sitelora.federation.bundle_config import FEDERATED, bundle_sha256, data_needs
from sitelora.federation.files import new_folder, write_json
from sitelora.federation.local_round import LocalRound, Progress, paired
from sitelora.federation.machine import hardware, versions
from sitelora.federation.packets import Received, accumulate, unpack_evaluation, unpack_message
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
from sitelora.federation.serving import personal_model, serve
from sitelora.federation.site_settings import Answer, SiteError, SiteSettings
from sitelora.federation.state import SiteState, SiteStore, StoredRound
from sitelora.method import Model
from sitelora.server.types import ANY_SITE
from sitelora.sharing.patterns import clean_name
from sitelora.sharing.wire import Packet, PacketError, difference, packet_sha256

logger = logging.getLogger(__name__)

AFTER_THE_LAST = 10**9
"""A round number after all others, for the state that the last finished round left."""


class Site:
    """A site as plain Python; NVFlare's executor and the in-process federation both hold one.

    Raises:
        SiteDataError: the site folder is missing or its data is not fit for training.
        ValueError, FileNotFoundError: the bundle or its base checkpoint is not usable.
    """

    def __init__(self, settings: SiteSettings) -> None:
        self.settings = settings
        self.folder = SiteFolder.read(settings.data)
        settings.run.require_base()
        self._parser = settings.run.parser(ours={**FEDERATED, "dataset_dir": str(settings.data)})
        torch.set_num_threads(int(self._parser.get_parsed_content("torch_threads")))
        self.seed = int(self._parser.get_parsed_content("seed"))
        self.method = settings.run.method
        self._network: nn.Module | None = None
        self._rounds: LocalRound | None = None
        self._last_dice: tuple[str, float] | None = None
        self._served: tuple[str, Served] | None = None
        self._scores: dict[tuple[str, Path], dict[str, Any]] = {}
        self.store = SiteStore(settings.run_folder / settings.site)

    @property
    def network(self) -> nn.Module:
        """The adapted network, built at first use."""
        if self._network is None:
            self._network = self._parser.get_parsed_content("network")
        return self._network

    @property
    def local_round(self) -> LocalRound:
        """The trainer of this site, built at first use."""
        if self._rounds is None:
            self._rounds = LocalRound(
                network=self.network,
                method=self.method,
                trainer=self._parser.get_parsed_content("train#trainer"),
                seed=self.seed,
                site=self.settings.site,
                schedule=self._parser.get_parsed_content("schedule") if "schedule" in self._parser else None,
                max_gradient_norm=float(self._parser.get_parsed_content("max_gradient_norm")),
            )
        return self._rounds

    @property
    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every shared tensor, by name."""
        initial = self.local_round.initial
        return {name: tuple(initial[name].shape) for name in partition_of(self.network).shared}

    def begin(self) -> Answer:
        """Check data, bundle and base; return hashes, counts and the seeded initial shared tensors.

        Raises:
            SiteDataError: with every problem of the data.
        """
        needs = data_needs(self.settings.bundle, self._parser)
        check_site_folder(self.settings.data, needs=needs).raise_if_bad()
        initial = self.local_round.initial
        tensors = {name: initial[name].clone() for name in partition_of(self.network).shared}
        report = {
            "site": self.settings.site,
            "hospital": self.folder.hospital,
            "labels": {str(value): name for value, name in self.folder.labels.items()},
            "cases": self.folder.case_counts(),
            "version": sitelora.__version__,
            "bundle_sha256": bundle_sha256(self.settings.bundle),
            "agreed": dict(self.settings.agreed),
            "base_sha256": getattr(self.network, "base_fingerprint", None),
            "initial_sha256": packet_sha256(tensors),
            "image_size": int(self._parser.get_parsed_content("image_size")),
            "base": f"{self._parser['arch']} ({Path(str(self._parser['base'])).name})",
            "partition": self._partition_summary(),
            "seed": self.seed,
            "hardware": hardware(),
            "versions": versions(),
        }
        return Answer(tensors, report)

    def train(self, round_number: int, packet: Packet, *, progress: Progress | None = None) -> Answer:
        """Do one round: or return the stored update if this very round was done from this very message.

        Raises:
            PacketError: the message is not what the method expects.
            TrainingError: training left the finite numbers.
        """
        key = packet_sha256(packet)
        stored = self.store.generation(round_number)
        if stored is not None and stored.manifest["message_sha256"] == key:
            logger.info("site %s: round %d is done, sending its update again", self.settings.site, round_number)
            known = {"state_sha256": stored.manifest["state_sha256"], "resent": True}
            return Answer(stored.update(), {**stored.manifest["report"], **known})
        started = time.monotonic()
        received = self._unpack(packet)
        state = self._state_before(round_number, received)
        had = self._kept(state, PREVIOUS)
        model = personal_model(self.method, received.values, state)
        before = Candidate(kind=RECEIVED, model=model, round_number=round_number, score=self._validation(model))
        rounds = self.local_round
        outcome = rounds.run(
            round_number,
            received=received.values,
            companions=received.companions,
            state=state,
            progress=progress,
        )
        after_values = {**received.values, **outcome.trained}
        model = personal_model(self.method, after_values, outcome.state)
        after = Candidate(kind=TRAINED, model=model, round_number=round_number, score=self._validation(model))
        served = choose([before, after, *had]).candidate
        outcome.state.served = to_tensors(served.model)
        outcome.state.served_as = {"kind": served.kind, "round": served.round_number, "score": served.score}
        tensors = difference(outcome.trained, received.values)
        tensors.update({f"@{name}": tensor for name, tensor in outcome.companions.items()})
        tensors = self.method.ranks.cut(tensors, self.settings.site)
        scores = {"dice_received": before.score, "dice_personal": after.score, "dice_served": served.score}
        metrics = {**outcome.metrics, **scores}
        report: dict[str, Any] = {
            "cases": self.folder.case_counts()["training"],
            "metrics": {name: value for name, value in metrics.items() if value is not None},
        }
        manifest = {"message_sha256": key, "report": report, **self._identity()}
        written = self.store.write(round_number, outcome.state, tensors, manifest)
        report = {**report, "state_sha256": written.manifest["state_sha256"]}
        report["seconds"] = round(time.monotonic() - started, 2)
        return Answer(tensors, report)

    def evaluate(self, packet: Packet) -> Answer:
        """Score every served model on this site's test cases; write overlays and the personal checkpoint here.

        Args:
            packet: from ``Coordinator.evaluation_packet``, after the last round.
        """
        started = time.monotonic()
        site = self.settings.site
        models = self.served_models(packet)
        served = self.served(packet)
        personal = served.candidate.model
        place = RunFolder(self.settings.run_folder)
        with new_folder(place.evaluation(site)) as new:
            predictions = new / PREDICTIONS
            self.score(personal, self.folder, keep_predictions=predictions)
            results = {
                kind: {"not_applicable": model} if isinstance(model, str) else self.score(model, self.folder)
                for kind, model in models.items()
            }
            results["personal"] = {**results["personal"], "served": served.to_json()}
            drawn = draw_cases(results["personal"], new / OVERLAYS, folder=self.folder, predictions=predictions)
            write_json(new / EVALUATION, {**results, "overlays": drawn})
        load_model(self.network, personal)
        save_merged(self.network, place.personal_model(site))
        return Answer({}, {"evaluation": numbered(results), "seconds": round(time.monotonic() - started, 2)})

    def served_models(self, packet: Packet) -> dict[str, Model | str]:
        """Return every model by kind (base, global, personal, unseen), or why there is none; as for `evaluate`."""
        own, other = unpack_evaluation(packet)
        received, stranger = self._unpack(own), self._unpack(other, ANY_SITE)
        models = serve(
            self.method,
            partition_of(self.network),
            received=received,
            stranger=stranger,
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
            received = self._unpack(unpack_evaluation(packet)[0])
            state = self._state_before(AFTER_THE_LAST, received)
            model = personal_model(self.method, received.values, state)
            latest = self.store.latest()
            number = latest.manifest["round"] + 1 if latest is not None else 0
            last = Candidate(kind=RECEIVED, model=model, round_number=number, score=self._validation(model))
            fresh = state.served_as.get("kind") == TRAINED and state.served_as["round"] == number - 1
            self._served = (key, choose([last, *self._kept(state, TRAINED if fresh else PREVIOUS)]))
        return self._served[1]

    def _kept(self, state: SiteState, kind: str) -> list[Candidate]:
        """Return the model that the site is served so far as a candidate of this kind; none before the first round."""
        if not state.served:
            return []
        model = from_tensors(state.served, self.method.serving.strengths_of("personal"))
        noted = state.served_as
        return [Candidate(kind=kind, model=model, round_number=noted["round"], score=noted["score"])]

    def score(self, model: Model, folder: SiteFolder, *, keep_predictions: Path | None = None) -> dict[str, Any]:
        """Score a model on a folder's test cases; another site's folder is at hand only where all data is public.

        A model that was scored there before is not scored again: where all is shared, several kinds are one model.
        A site without test cases has no score, which is an answer.
        """
        if not folder.cases("test"):
            return {"not_applicable": f"no test data at site {folder.name}"}
        key = (model_sha256(model), folder.path)
        if key not in self._scores or keep_predictions is not None:
            load_model(self.network, model)
            self._scores[key] = evaluate_cases(
                self.network, folder, "test", pipeline=self._pipeline(), keep_predictions=keep_predictions
            )
        return self._scores[key]

    def _unpack(self, packet: Packet, reader: str | None = None) -> Received:
        """Read this site's message, or another reader's; where ranks differ, filled up to the full one."""
        ranks = self.method.ranks
        shapes = ranks.cut_shapes(self.shared_shapes, reader or self.settings.site)
        received = unpack_message(packet, shapes, self.method.program.companions, self.settings.wire)
        return Received(ranks.padded(received.values), ranks.padded(received.companions), received.deltas)

    def _state_before(self, round_number: int, received: Received) -> SiteState:
        stored = self.store.latest_before(round_number)
        state = stored.state() if stored is not None else self.local_round.fresh_state()
        if stored is not None:
            self._require_same_run(stored)
        for number in sorted(received.deltas):
            if number not in state.delta_rounds:
                state.delta = accumulate(state.delta, received.deltas[number])
                state.delta_rounds.append(number)
        missing = [adapter for adapter in paired(state.delta) if f"{adapter}.A" not in self.local_round.initial]
        if missing:
            raise PacketError(f"the server's message: a base delta for {missing[0]}, which is no adapter here")
        return state

    def _identity(self) -> dict[str, Any]:
        return {
            "bundle_sha256": bundle_sha256(self.settings.bundle),
            "settings_sha256": self.settings.run.agreed_sha256,
            "base_sha256": getattr(self.network, "base_fingerprint", None),
            "version": sitelora.__version__,
        }

    def _require_same_run(self, stored: StoredRound) -> None:
        for key, now in self._identity().items():
            then = stored.manifest[key]
            if then != now:
                raise SiteError(
                    f"site {self.settings.site}: {stored.folder} was written with {key} {str(then)[:12]}, now it is "
                    f"{str(now)[:12]}; resume with the version and bundle of the run, or start a new one"
                )

    def _validation(self, model: Model) -> float | None:
        """Return a model's Dice on this site's validation cases, or None where it has none."""
        if not self.folder.cases("validation"):
            return None
        key = model_sha256(model)
        # where nothing is shared, what is received is what was scored last
        if self._last_dice is None or self._last_dice[0] != key:
            load_model(self.network, model)
            scores = evaluate_cases(self.network, self.folder, "validation", pipeline=self._pipeline(), dice_only=True)
            self._last_dice = (key, float(scores["dice"]))
        return self._last_dice[1]

    def _pipeline(self) -> Callable[[str], Any]:
        """Return the bundle's inference parts by id: what is scored is what is served."""
        if not hasattr(self, "_inference"):
            self._inference = self.settings.run.parser("inference")
            self._inference["device"] = str(next(self.network.parameters()).device)
        return self._inference.get_parsed_content

    def _partition_summary(self) -> dict[str, Any]:
        partition = partition_of(self.network)
        sizes = {clean_name(name): t.numel() for name, t in self.network.state_dict().items()}
        return {
            "shared": {name: list(shape) for name, shape in self.shared_shapes.items()},
            "local_count": len(partition.local),
            "local_values": sum(sizes[name] for name in partition.local),
            "frozen_count": len(partition.frozen),
            "model_values": sum(sizes[n] for n in (*partition.frozen, *partition.trained)),
        }
