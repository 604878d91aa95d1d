"""Whether a run had the machine to itself: its seconds mean something only then."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import psutil

LARGEST = 0.05
"""Cores that all other processes together may have used on average (our choice)."""


def _used() -> float:
    """Return the processor seconds that all processes of the machine have used since it began."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, name, 0.0) for name in names))


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(frozen=True)
class Watch:
    """From when it is made: seconds by the clock, and the cores that others used meanwhile."""

    began: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=_used)
    own: float = field(default_factory=_own)

    def told(self) -> dict[str, float | bool]:
        """Return ``seconds``, ``others_cores`` (mean) and ``seconds_valid``: whether others were below LARGEST."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        others = max(0.0, (_used() - self.used) - (_own() - self.own)) / seconds
        return {
            "seconds": round(seconds, 1),
            "others_cores": round(others, 3),
            "seconds_valid": others < LARGEST,
        }
