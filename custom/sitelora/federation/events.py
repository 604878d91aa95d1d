"""What happens, as JSON lines that a terminal or a person can follow: one file per participant and run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitelora.federation.files import append_line
from sitelora.federation.run_folder import EVENTS

Event = Mapping[str, Any]

_LATEST = 4e9
_FIELDS: Mapping[str, Mapping[str, type]] = {
    "round_started": {"round": int},
    "round_finished": {"round": int},
    "update": {"site": str, "status": str},
    "silent": {"site": str, "reason": str},
    "task_started": {"task": str, "round": int},
    "task_finished": {"task": str},
    "step": {"step": int, "steps": int},
}
"""What an event must hold for who reads it; further ones are nobody's condition."""


class EventLog:
    """Appends events to ``<run>/<participant>/events.jsonl``; numbers and names only, never image data.

    Args:
        folder: the participant's folder in the run.
        who: site name, or "server".
    """

    def __init__(self, folder: Path, who: str) -> None:
        self.path = folder / EVENTS
        self._who = who

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the time and who it happened to."""
        append_line(self.path, json.dumps({"time": round(time.time(), 3), "who": self._who, "event": event, **fields}))

    def stopped(self, reason: str) -> None:
        """Note that something else than its own end ended the work: an error, Ctrl-C, a request by signal."""
        self.write("stopped", reason=reason)


def is_moment(value: object) -> bool:
    """Say whether a value read from a file is a time: seconds since 1970 that a clock could have shown."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST


def read_events(path: Path) -> list[Event]:
    """Read an event log; a line that is just being written, was cut by a crash, or is no event of ours is left out."""
    events: list[Event] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return events
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and is_moment(event.get("time")) and _is_whole(event):
            events.append(event)
    return events


def _is_whole(event: Event) -> bool:
    name = event.get("event")
    fields = _FIELDS.get(name, {}) if isinstance(name, str) else {"event": str}
    return all(isinstance(event.get(key), kind) for key, kind in fields.items())
