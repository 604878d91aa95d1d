"""A run as its participants tell it: new lines of every ``events.jsonl``, and what they add up to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.federation.run_folder import EVENTS, SERVER
from sitelora.federation.task_names import EVALUATE, TRAIN
from sitelora.metric import UNKNOWN, Metric
from sitelora.typed_json import from_json

Event = dict[str, Any]


class EventFollower:
    """Reads what is new in the event logs of a run; what was there before it began to follow is an earlier run's.

    Args:
        run_folder: of the run.
    """

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder
        self._read = {path: path.stat().st_size for path in self._logs()}

    def poll(self) -> list[Event]:
        """Return new events of all participants, oldest first."""
        events: list[Event] = []
        for path in self._logs():
            with path.open("rb") as stream:
                stream.seek(self._read.get(path, 0))
                new = stream.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            events += [json.loads(line) for line in whole.splitlines()]
        return sorted(events, key=lambda event: float(event["time"]))

    def _logs(self) -> Iterable[Path]:
        return sorted(self._folder.glob(f"*/{EVENTS}"))


@dataclass
class SiteView:
    """What one site is doing and has done."""

    doing: str = "waiting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    score: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass
class RunView:
    """What a run adds up to so far.

    Attributes:
        rounds: planned. sites: by name.
        done: rounds written. phase: in words. artificial: sites whose data was drawn.
        primary: what the sites' scores are of, once the server has said so.
        errors: texts of failures. began: monotonic seconds. first_round_at: when the first round of this run began.
    """

    rounds: int
    sites: dict[str, SiteView]
    done: int = 0
    phase: str = "starting"
    primary: Metric = UNKNOWN
    artificial: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    first_round_at: float | None = None
    rounds_here: int = 0

    def take(self, event: Event) -> None:
        """Take one event into account; unknown ones are no harm."""
        who, what = str(event["who"]), str(event["event"])
        if who == SERVER:
            self._server(what, event)
        elif who in self.sites:
            self._site(self.sites[who], who, what, event)

    def seconds(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.began

    def seconds_left(self) -> float | None:
        """Return a guess at the seconds left, or None before the first round is written."""
        if self.first_round_at is None or not self.rounds_here:
            return None
        each = (time.monotonic() - self.first_round_at) / (self.rounds_here + self._part_of_round())
        return max(0.0, each * (self.rounds - self.done - self._part_of_round()))

    def _part_of_round(self) -> float:
        parts = [view.step / view.steps for view in self.sites.values() if view.steps and view.doing == "training"]
        return sum(parts) / len(self.sites) if self.sites else 0.0

    def _server(self, what: str, event: Event) -> None:
        if what == "federation_started":
            self.done, self.phase = int(event["first_round"]), "sites check their data"
            self.primary = from_json(Metric, event["primary"], "primary")
        elif what == "round_started":
            self.phase = f"round {event['round'] + 1} of {self.rounds}"
            self.first_round_at = self.first_round_at or time.monotonic()
            for view in self.sites.values():
                view.doing, view.step, view.steps = "waiting", 0, 0
        elif what == "round_finished":
            self.done, self.rounds_here = int(event["round"]) + 1, self.rounds_here + 1
        elif what == "update" and event["status"] != "ok":
            self.sites[event["site"]].doing = str(event["status"])
        elif what == "evaluation_started":
            self.phase = "evaluation"
        elif what == "finished":
            self.phase = "finished" if event["completed"] else "failed"

    def _site(self, view: SiteView, who: str, what: str, event: Event) -> None:
        if what == "task_started":
            view.doing = {TRAIN: "training", EVALUATE: "evaluating"}.get(event["task"], "checking its data")
            view.bytes_down += int(event["bytes_down"])
        elif what == "step":
            view.step, view.steps, view.loss = int(event["step"]), int(event["steps"]), float(event["loss"])
        elif what == "task_finished":
            view.doing = "done"
            view.score = event.get("metrics", {}).get("score_personal", view.score)
        elif what == "left":
            view.bytes_up += int(event["bytes"])
        elif what == "artificial_data":
            self.artificial.add(who)
        elif what == "error":
            view.doing = "failed"
            self.errors.append(str(event["error"]))
