"""What happens, as JSON lines that a terminal or a person can follow: one file per participant and run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sitelora.federation.files import append_line
from sitelora.federation.run_folder import EVENTS


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
