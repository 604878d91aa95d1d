"""Hostile answers against a federation of five: none may reach the aggregate, none may end the run, each is named.

    python benchmarks/attacks/hostile_updates.py --out benchmarks/results/attacks/hostile_updates.json

Four honest sites and a hostile one that is honest in the round before and in the round after. What the server makes of
the round is compared bit for bit with the same round without the hostile site. tests/attacks runs every kind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from kinds import BEGIN, ENVELOPES, REPORTS, TENSORS
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from torch import Tensor

import sitelora
from sitelora.federation.coordinator import Coordinator, FederationError
from sitelora.federation.plan import FederationPlan
from sitelora.federation.ticket import Ticket
from sitelora.flare.protocol import read_reply
from sitelora.method import Method
from sitelora.server.mean import WeightedMean
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.wire import packet_sha256
from sitelora.tasks.segmentation import TASK

SITES = tuple(f"site-{number}" for number in range(1, 6))
HOSTILE = "site-1"
"""Its answer is the first of every round, and its name the first of all."""
SHAPES = {"enc.lora.q.A": (2, 6), "enc.lora.q.B": (5, 2), "head.w": (3,)}
METHOD = Method(name="m", paper="none", adapters=(), share=ShareRule(shared=("**",)), server=WeightedMean())
BEGUN: dict[str, Any] = {
    "hospital": "h",
    "labels": {"0": "background", "1": "prostate"},
    "cases": {"training": 4, "validation": 1, "test": 2},
    "version": "1.0",
    **{f"{what}_sha256": letter * 64 for what, letter in (("bundle", "a"), ("base", "b"), ("initial", "c"))},
    "image_size": 32,
    "base": "sam_tiny (x)",
    **dict.fromkeys(("local_count", "local_values", "frozen_count", "model_values"), 0),
    "seed": 0,
    "hardware": {"cores": 2},
    "versions": {"torch": "2.13"},
}
STAGES = ("tensors", "report", "envelope", "order", "begin")
ORDER = ("a second update", "the tensors of the last round again", "an update of a stranger")


@dataclass(frozen=True)
class Outcome:
    """What became of one kind.

    Attributes:
        reached: whether the round's result differs from that without it. ended: whether the run stopped.
        named: what the record says of the site.
    """

    stage: str
    kind: str
    reached: bool
    ended: bool
    named: str


def every_kind() -> list[tuple[str, str]]:
    """Return stage and name of every kind."""
    stages = (TENSORS, REPORTS, ENVELOPES, ORDER, BEGIN)
    return [(stage, kind) for stage, kinds in zip(STAGES, stages, strict=True) for kind in kinds]


def tensors(seed: int, scale: float) -> dict[str, Tensor]:
    """Drawn tensors as they travel."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: tensor.to(torch.bfloat16) for name, tensor in drawn.items()}


def trained() -> dict[str, Any]:
    return {"cases": 4, "metrics": {"loss": 0.5}, "state_hmac": "e" * 64, "seconds": 1.0}


class Federation:
    """Five sites over a coordinator, driven as the controller does it."""

    def __init__(self, home: Path) -> None:
        self.plan = FederationPlan(
            federation="f", uid="u", bundle="b", dataset="d", sites=SITES, rounds=3, home=home, min_sites=3
        )
        self.coordinator = Coordinator(self.plan, METHOD, TASK)

    def begin(self, kind: str = "") -> None:
        answers: dict[str, Any] = {site: (tensors(0, 1.0), {**BEGUN, "site": site}) for site in SITES}
        if kind:
            answers[HOSTILE] = BEGIN[kind](*answers[HOSTILE])
        self.coordinator.begin({site: answer for site, answer in answers.items() if answer is not None})

    def honest(self, site: str) -> dict[str, Tensor]:
        return tensors(100 * self.coordinator.next_round + SITES.index(site) + 1, 0.1)

    def answer(self, site: str, meta: Any, packet: Any) -> None:
        """Take an answer as the controller takes it."""
        number = self.coordinator.next_round
        ticket = Ticket(federation="f", uid="u", round_number=number)
        model = FLModel(params_type=ParamsType.DIFF, params={}, meta={})
        model.params, model.meta = packet, meta
        reply = read_reply(site, ticket, model)
        if reply.error:
            self.coordinator.note_missing(site, reply.error)
        else:
            self.coordinator.receive(site, reply.packet, reply.report)

    def good(self, site: str) -> None:
        self.answer(site, self._meta(trained()), self.honest(site))

    def _meta(self, report: Any) -> dict[str, Any]:
        return {"federation": "f", "uid": "u", "round": self.coordinator.next_round, "report": report}

    def attack(self, stage: str, kind: str) -> None:
        packet: Any = self.honest(HOSTILE)
        if stage == "tensors":
            self.answer(HOSTILE, self._meta(trained()), TENSORS[kind](packet))
        elif stage == "report":
            self.answer(HOSTILE, self._meta(REPORTS[kind](trained())), packet)
        elif stage == "envelope":
            self.answer(HOSTILE, *ENVELOPES[kind](self._meta(trained()), packet))
        elif kind == ORDER[0]:
            self.good(HOSTILE)
            self.answer(HOSTILE, self._meta(trained()), tensors(7, 0.1))
        elif kind == ORDER[1]:
            self.answer(HOSTILE, self._meta(trained()), tensors(1, 0.1))  # what `honest` gave for round 0
        else:
            self.answer("site-9", self._meta(trained()), packet)

    def round(self, stage: str = "", kind: str = "") -> str:
        """Play one round, the hostile site first, and return what the sites get."""
        if kind:
            self.attack(stage, kind)
        elif HOSTILE in self.coordinator.sites:
            self.good(HOSTILE)
        for site in SITES[1:]:
            self.good(site)
        self.coordinator.close_round(0.0)
        return packet_sha256(self.coordinator.message_for(HOSTILE))


def attacked(stage: str, kind: str, home: Path) -> Outcome:
    """Run one kind against a federation, and the same federation without it."""
    under, calm = Federation(home / "under"), Federation(home / "calm")
    try:
        if stage == "begin":
            under.begin(kind)
            calm.begin("silence")
            found = [under.round() == calm.round() for _ in range(2)]
        else:
            under.begin()
            calm.begin()
            found = [under.round() == calm.round(), under.round(stage, kind) == _without(calm, kind)]
            found.append(under.round() == calm.round())
    except (FederationError, RuntimeError) as error:
        return Outcome(stage, kind, reached=False, ended=True, named=str(error)[:300])
    result = under.coordinator.finish({}, completed=True)
    who = "site-9" if kind == ORDER[2] else HOSTILE
    named = next((text for text in result.warnings if who in text), "")
    return Outcome(stage, kind, reached=not all(found), ended=False, named=f"{named:.300}")


def _without(calm: Federation, kind: str) -> str:
    """The same round when the hostile site is silent, or where its first update counts, honest."""
    if kind == ORDER[0]:
        return calm.round()
    calm.coordinator.note_missing(HOSTILE, "absent")
    for site in SITES[1:]:
        calm.good(site)
    calm.coordinator.close_round(0.0)
    return packet_sha256(calm.coordinator.message_for(HOSTILE))


def main(arguments: list[str] | None = None) -> int:
    """Try every kind and write what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    outcomes = []
    with tempfile.TemporaryDirectory() as home:
        for number, (stage, kind) in enumerate(every_kind()):
            outcomes.append(attacked(stage, kind, Path(home) / str(number)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(table_of(outcomes), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    bad = [one for one in outcomes if one.reached or one.ended or not one.named]
    print(f"{len(outcomes)} kinds, {len(bad)} not held")
    for one in bad:
        print(f"  {one.stage}: {one.kind}: reached {one.reached}, ended {one.ended}, named {one.named!r}")
    return 1 if bad else 0


def table_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what the file says."""
    return {
        "command": "python benchmarks/attacks/hostile_updates.py --out benchmarks/results/attacks/hostile_updates.json",
        "versions": {"sitelora": sitelora.__version__, "torch": torch.__version__},
        "kinds": len(outcomes),
        "by_stage": dict(Counter(one.stage for one in outcomes)),
        "reached_the_aggregate": sum(one.reached for one in outcomes),
        "ended_the_run": sum(one.ended for one in outcomes),
        "not_named": sum(not one.named for one in outcomes),
        "outcomes": [asdict(one) for one in outcomes],
    }


if __name__ == "__main__":
    sys.exit(main())
