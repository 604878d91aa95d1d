"""The numbers of a run as they come in, and ``result.json``: the positive proof of what ran where."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sitelora
from sitelora.federation.plan import FederationPlan
from sitelora.guarantee import Guarantee
from sitelora.method import Method
from sitelora.run_result import (
    OK,
    Base,
    Egress,
    ModelScore,
    Round,
    RoundDetails,
    RunResult,
    SharedTensor,
    SiteFacts,
    SiteRound,
)
from sitelora.server.types import ANY_SITE
from sitelora.sharing.accounting import guarantee
from sitelora.sharing.codecs import codecs_up, wire_bytes
from sitelora.sharing.layout import Form
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.schema import SchemaError
from sitelora.task import Task
from sitelora.typed_json import from_json, to_json

NO_SCORES = "evaluation: "
"""How the warning begins that says whose models were not scored, and why."""


class FederationRecord:
    """Collects begin reports, rounds and warnings.

    Attributes:
        lost: sites whose process was gone at some time of this attempt. short: those that ran out of memory or disk.
    """

    def __init__(self, plan: FederationPlan, method: Method, task: Task) -> None:
        self._plan = plan
        self._method, self._task = method, task
        self._begin: dict[str, Any] = {}
        self._shapes: dict[str, list[int]] = {}
        self.rounds: dict[int, Round] = {}
        self._warnings: list[str] = []
        self.lost: set[str] = set()
        self.short: set[str] = set()

    def history(self) -> dict[str, Any]:
        """Return all of it for the server's manifest, as JSON."""
        rounds = to_json(list(self.rounds.values()))
        return copy.deepcopy(
            {"begin": self._begin, "shapes": self._shapes, "rounds": rounds, "warnings": self._warnings}
        )

    def restore(self, history: Mapping[str, Any]) -> None:
        """Go on from what ``history`` returned."""
        content = copy.deepcopy(dict(history))
        self._begin, self._shapes = content["begin"], content["shapes"]
        rounds = [from_json(Round, told, "rounds") for told in content["rounds"]]
        self.rounds, self._warnings = {each.number: each for each in rounds}, content["warnings"]

    def note_begin(
        self,
        reports: Mapping[str, Mapping[str, Any]],
        bytes_up: Mapping[str, int],
        shapes: Mapping[str, list[int]],
    ) -> None:
        """Note what the sites said when the run began (or was resumed), and the shapes of the shared tensors."""
        self._begin = {site: {**report, "bytes_up": bytes_up[site]} for site, report in reports.items()}
        self._shapes = dict(shapes)

    def answered(self) -> dict[str, int]:
        """Return the last round, from 0, for which an update of each site was taken."""
        return {
            site: number
            for number in sorted(self.rounds)
            for site, one in self.rounds[number].sites.items()
            if one.status == OK
        }

    def began(self, site: str) -> dict[str, Any]:
        """Return what a site said when the run began.

        Raises:
            SchemaError: it said nothing.
        """
        if site not in self._begin:
            raise SchemaError(f"{site}: it took no part in the begin of this run")
        return dict(self._begin[site])

    def note_site(
        self, round_number: int, site: str, status: str, reason: str, report: Mapping[str, Any], bytes_up: int
    ) -> None:
        """Note one site in one round: "ok", "missing" or "rejected"; of a report that was not taken nothing is kept."""
        entry = SiteRound(
            status=status,
            reason=reason,
            cases=report.get("cases"),
            seconds=report.get("seconds"),
            metrics=dict(report.get("metrics", {})),
            state_hmac=report.get("state_hmac"),
            bytes_up=bytes_up,
        )
        before = self._round(round_number)
        self.rounds[round_number] = replace(before, sites={**before.sites, site: entry})
        if status != OK:
            self._warnings.append(f"round {round_number + 1}: {site} {status}: {reason}")

    def warn(self, text: str) -> None:
        """Note something that a reader of the results has to know."""
        self._warnings.append(text)

    def close_round(
        self,
        round_number: int,
        seconds: float,
        bytes_down: Mapping[str, int],
        *,
        server: Mapping[str, float] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Note that a round is done.

        Args:
            server: numbers of the aggregation. details: the same by layer or by site.
        """
        before = self._round(round_number).sites
        self.rounds[round_number] = Round(
            number=round_number,
            # not in the order in which they happened to answer
            sites={site: replace(before[site], bytes_down=bytes_down.get(site, 0)) for site in sorted(before)},
            server=dict(server or {}),
            details=from_json(RoundDetails, details or {}, "details"),
            seconds=round(seconds, 2),
        )

    def reason(self, round_number: int, site: str) -> str:
        """Return why one site is not in a round; empty where it is."""
        entry = self._round(round_number).sites.get(site)
        return entry.reason if entry else ""

    def reasons(self, round_number: int) -> str:
        """Return why sites are not in a round."""
        sites = sorted(self._round(round_number).sites.items())
        return "; ".join(f"{site} {entry.status}: {entry.reason}" for site, entry in sites if entry.status != OK)

    def result(
        self,
        evaluations: Mapping[str, Mapping[str, ModelScore]],
        *,
        completed: bool,
        error: str,
        fingerprint: str | None,
    ) -> RunResult:
        """Return the whole record."""
        plan = self._plan
        first: dict[str, Any] = next(iter(self._begin.values()), {})
        return RunResult(
            completed=completed,
            error=error,
            lost=tuple(sorted(self.lost)),
            short=tuple(sorted(self.short)),
            federation=plan.federation,
            uid=plan.uid,
            method=self._method.name,
            paper=self._method.paper,
            bundle=plan.bundle,
            overrides=dict(plan.overrides),
            aggregation=plan.aggregation.told(),
            dataset=plan.dataset,
            **self._task.scoring,
            seed=first.get("seed"),
            rounds_planned=plan.rounds,
            rounds_done=sum(each.seconds is not None for each in self.rounds.values()),
            fingerprint=fingerprint,
            versions=first.get("versions", {"sitelora": sitelora.__version__}),
            hardware=first.get("hardware", {}),
            base=Base(name=first.get("base"), sha256=first.get("base_sha256")),
            image_size=first.get("image_size"),
            sites={
                site: SiteFacts(
                    hospital=report["hospital"],
                    cases=report["cases"],
                    labels=report["labels"],
                    begin_bytes_up=report["bytes_up"],
                    hardware=report["hardware"],
                    own_settings=report.get("own_settings", {}),
                )
                for site, report in sorted(self._begin.items())
            },
            egress=self._egress(first) if first else None,
            privacy=self._privacy() if first else None,
            rounds=tuple(self.rounds.values()),
            evaluation={site: dict(evaluations[site]) for site in sorted(evaluations)},
            warnings=tuple(self._warnings),
        )

    def _egress(self, begin: Mapping[str, Any]) -> Egress:
        wire = self._plan.wire
        size, sent_as = wire.torch_dtype.itemsize, codecs_up(SiteRanks(), wire, ANY_SITE)
        return Egress(
            shared=tuple(
                SharedTensor(name=name, shape=tuple(shape), bytes=wire_bytes({name: Form(tuple(shape))}, sent_as))
                for name, shape in sorted(self._shapes.items())
            ),
            companions=tuple(self._method.program.companions),
            dtype=wire.words,
            clip_norm=wire.clip_norm,
            noise_std=wire.noise_std,
            local_count=begin["local_count"],
            local_bytes=begin["local_values"] * size,
            frozen_count=begin["frozen_count"],
            full_model_bytes=begin["model_values"] * size,
        )

    def _privacy(self) -> Guarantee:
        """Return what the job's noise guarantees to a site that answered in every round (rejected ones left too)."""
        sent = self._method.sent_in(0, tuple(self._shapes))
        still = self._plan.wire.still(sent)
        values = sum(math.prod(self._shapes[name]) for name in sent if name not in still)
        each = self._method.releases if self._shapes else 0
        return guarantee(self._plan.wire, rounds=len(self.rounds), each=each, values=values)

    def _round(self, number: int) -> Round:
        return self.rounds.get(number) or Round(number=number)
