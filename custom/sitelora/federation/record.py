"""The numbers of a run as they come in, and ``result.json``: the positive proof of what ran where."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sitelora
from sitelora.method import Method
from sitelora.sharing.schema import SchemaError

if TYPE_CHECKING:
    from sitelora.federation.coordinator import FederationPlan

FORMAT = 1


class FederationRecord:
    """Collects begin reports, rounds and warnings; everything in it is JSON."""

    def __init__(self, plan: FederationPlan, method: Method) -> None:
        self._plan = plan
        self._method = method
        self._begin: dict[str, Any] = {}
        self._shapes: dict[str, list[int]] = {}
        self._rounds: list[dict[str, Any]] = []
        self._warnings: list[str] = []

    def history(self) -> dict[str, Any]:
        """Return all of it for the server's manifest."""
        return copy.deepcopy(
            {"begin": self._begin, "shapes": self._shapes, "rounds": self._rounds, "warnings": self._warnings}
        )

    def restore(self, history: Mapping[str, Any]) -> None:
        """Go on from what ``history`` returned."""
        content = copy.deepcopy(dict(history))
        self._begin, self._shapes = content["begin"], content["shapes"]
        self._rounds, self._warnings = content["rounds"], content["warnings"]

    def note_begin(
        self,
        reports: Mapping[str, Mapping[str, Any]],
        bytes_up: Mapping[str, int],
        shapes: Mapping[str, list[int]],
    ) -> None:
        """Note what the sites said when the run began (or was resumed), and the shapes of the shared tensors."""
        self._begin = {site: {**report, "bytes_up": bytes_up[site]} for site, report in reports.items()}
        self._shapes = dict(shapes)

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
        entry = {
            "status": status,
            "reason": reason,
            "cases": report.get("cases"),
            "seconds": report.get("seconds"),
            "metrics": dict(report.get("metrics", {})),
            "state_hmac": report.get("state_hmac"),
            "bytes_up": bytes_up,
            "bytes_down": 0,
        }
        self._round(round_number)["sites"][site] = entry
        if status != "ok":
            self._warnings.append(f"round {round_number}: {site} {status}: {reason}")

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
        entry = self._round(round_number)
        if server:
            entry["server"] = dict(server)
        if details:
            entry["details"] = dict(details)
        entry["seconds"] = round(seconds, 2)
        entry["sites"] = dict(sorted(entry["sites"].items()))  # not in the order in which they happened to answer
        for site, count in bytes_down.items():
            if site in entry["sites"]:
                entry["sites"][site]["bytes_down"] = count

    def reasons(self, round_number: int) -> str:
        """Return why sites are not in a round."""
        sites = self._round(round_number)["sites"]
        return "; ".join(f"{s} {e['status']}: {e['reason']}" for s, e in sorted(sites.items()) if e["status"] != "ok")

    def result(
        self,
        evaluations: Mapping[str, Mapping[str, Any]],
        *,
        completed: bool,
        error: str,
        fingerprint: str | None,
    ) -> dict[str, Any]:
        """Return the content of ``result.json``."""
        plan = self._plan
        done = [entry for entry in self._rounds if "seconds" in entry]
        first: dict[str, Any] = next(iter(self._begin.values()), {})
        return {
            "format": FORMAT,
            "completed": completed,
            "error": error,
            "federation": plan.federation,
            "uid": plan.uid,
            "method": self._method.name,
            "paper": self._method.paper,
            "bundle": plan.bundle,
            "overrides": dict(plan.overrides),
            "dataset": plan.dataset,
            "seed": first.get("seed"),
            "rounds_planned": plan.rounds,
            "rounds_done": len(done),
            "fingerprint": fingerprint,
            "versions": first.get("versions", {"sitelora": sitelora.__version__}),
            "hardware": first.get("hardware", {}),
            "base": {"name": first.get("base"), "sha256": first.get("base_sha256")},
            "image_size": first.get("image_size"),
            "sites": {
                site: {
                    "hospital": report["hospital"],
                    "cases": report["cases"],
                    "labels": report["labels"],
                    "begin_bytes_up": report["bytes_up"],
                }
                for site, report in sorted(self._begin.items())
            },
            "egress": self._egress(first),
            "rounds": self._rounds,
            "evaluation": {site: dict(evaluations[site]) for site in sorted(evaluations)},
            "warnings": self._warnings,
        }

    def _egress(self, begin: Mapping[str, Any]) -> dict[str, Any]:
        if not begin:
            return {}
        size = self._plan.wire.torch_dtype.itemsize
        shared = []
        for name, shape in sorted(self._shapes.items()):
            count = 1
            for length in shape:
                count *= length
            shared.append({"name": name, "shape": shape, "bytes": count * size})
        return {
            "shared": shared,
            "companions": list(self._method.program.companions),
            "dtype": self._plan.wire.dtype,
            "local_count": begin["local_count"],
            "local_bytes": begin["local_values"] * 4,
            "frozen_count": begin["frozen_count"],
            "full_model_bytes": begin["model_values"] * size,
        }

    def _round(self, round_number: int) -> dict[str, Any]:
        for entry in self._rounds:
            if entry["round"] == round_number:
                return entry
        entry = {"round": round_number, "sites": {}}
        self._rounds.append(entry)
        return entry
