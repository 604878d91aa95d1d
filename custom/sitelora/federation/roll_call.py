"""Who takes part in a run: which answers to begin are taken, and why the others are not.

One site must not keep a federation from beginning. A site that says nothing, or something that no site says, is left
out by name as long as enough sites remain; so is one whom most of the others contradict. Without a majority nobody
knows who is right, and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sitelora.federation.agreement import MUST_AGREE, Reports, disagreements, other_jobs, outvoted, remedies
from sitelora.federation.arrivals import Arrivals
from sitelora.federation.plan import FederationPlan
from sitelora.sharing.schema import SchemaError
from sitelora.sharing.wire import Packet, PacketError, packet_sha256

Answers = Mapping[str, tuple[Packet, Mapping[str, Any]]]


class RollCallError(ValueError):
    """Too few sites are left; says what is wrong with the others."""


@dataclass(frozen=True)
class Called:
    """Who takes part.

    Attributes:
        reports: by site, sorted, as the schema has them. initial: tensors that all of these sites begin with.
        left_out: why the others do not take part, by site.
    """

    reports: dict[str, dict[str, Any]]
    initial: dict[str, Tensor]
    left_out: dict[str, str]


def call_the_roll(plan: FederationPlan, arrivals: Arrivals, answers: Answers, failed: Mapping[str, str]) -> Called:
    """Judge all answers to begin.

    Args:
        plan: whose sites are called. arrivals: reads tensors. answers: initial packet and report by site.
        failed: why other sites have no answer.

    Raises:
        RollCallError: fewer than the plan's ``min_sites`` are left, or no majority says alike.
    """
    roll = _RollCall(plan)
    silent = {site: failed.get(site, f"{site}: no answer to begin") for site in plan.sites if site not in answers}
    unheard = sorted(silent.keys() - failed.keys())
    told = [silent[site] for site in sorted(silent) if site in failed]
    told += [f"no answer to begin from {', '.join(unheard)}"] if unheard else []
    roll.leave_out(silent, "nothing was trained: " + "\n  ".join(told))
    reports: dict[str, dict[str, Any]] = {}
    initial: dict[str, dict[str, Tensor]] = {}
    refused: dict[str, str] = {}
    for site in roll.inside:
        try:
            reports[site] = arrivals.begin(site, answers[site][1])
            initial[site] = arrivals.initial(site, answers[site][0])
        except (SchemaError, PacketError) as error:
            refused[site] = str(error)
    roll.leave_out(refused, "nothing was trained: " + "\n  ".join(refused.values()))
    roll.require_same_job(plan.agreed, reports)
    roll.require_agreement(reports)
    packets = {site: {_INITIAL: packet_sha256(answers[site][0])} for site in roll.inside}
    told = [f"{site} {packet[_INITIAL][:12]}" for site, packet in packets.items()]
    differ = f"nothing was trained: the sites' initial tensors differ although their hashes agree: {', '.join(told)}"
    roll.outvote(packets, (_INITIAL,), differ)
    return Called({site: reports[site] for site in roll.inside}, initial[roll.inside[0]], roll.out)


_INITIAL = "initial tensors"


class _RollCall:
    """Sites that are still in, sorted, and why the others are out."""

    def __init__(self, plan: FederationPlan) -> None:
        self.inside = sorted(plan.sites)
        self.out: dict[str, str] = {}
        self._least = plan.min_sites

    def leave_out(self, reasons: Mapping[str, str], otherwise: str) -> None:
        """Leave sites out by name and reason; where too few would remain, say ``otherwise`` and who is out already."""
        remaining = [site for site in self.inside if site not in reasons]
        if reasons and len(remaining) < self._least:
            raise RollCallError("\n  ".join([otherwise, *(f"left out already: {why}" for why in self.out.values())]))
        self.inside = remaining
        self.out.update(reasons)

    def require_same_job(self, agreed: Mapping[str, str], reports: Reports) -> None:
        """Leave out who has read another job than the server."""
        here = {site: reports[site] for site in self.inside}
        alone = {site: other_jobs(agreed, {site: report}) for site, report in here.items()}
        reasons = {
            site: f"{site}: has read another job than the server, they differ in {lines[0].rpartition(' at ')[0]}"
            for site, lines in alone.items()
            if lines
        }
        self.leave_out(
            reasons,
            "server and sites have read different jobs, nothing was trained; these differ from the server's:\n  "
            + "\n  ".join(other_jobs(agreed, here))
            + "\n  -> one app with one config/sitelora.json for all of them; change values there and nowhere else",
        )

    def require_agreement(self, reports: Reports) -> None:
        """Leave out whom most of the others contradict in what all must agree on."""
        here = {site: reports[site] for site in self.inside}
        text = (
            "the sites do not agree, nothing was trained:\n  "
            + "\n  ".join(disagreements(here))
            + f"\n  -> {remedies(here)}"
        )
        self.outvote(here, MUST_AGREE, text)

    def outvote(self, said: Reports, keys: Sequence[str], otherwise: str) -> None:
        """Leave out whom most of the others contradict; without a majority say ``otherwise``."""
        strangers = outvoted(said, keys)
        if strangers is None:
            raise RollCallError(otherwise)
        reasons = {site: f"{site}: most sites have another {', '.join(on)}" for site, on in strangers.items()}
        self.leave_out(reasons, otherwise)
