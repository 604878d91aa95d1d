"""Which sites are there: what the server knows of their processes from small signs of life.

A site gives a sign every ``SIGN_EVERY_S`` for as long as its process lives. Our choice: a silence of ``SILENT_S`` is a
process that has ended, a machine that is off or a network that is cut for longer than one waits. A site that has not
yet begun with its task is given that time anew as long as any other is at work: where sites take turns, its turn has
not come. Whoever was never heard of, or said that its turn is over, has the whole time of its task.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

SIGN_EVERY_S = 5.0
SILENT_S = 60.0
LEFT_S = 15.0
"""How long a site that said goodbye is waited for: where the whole job was ended, the server hears of it after it."""
MOST_NAMES = 10_000
"""As many as a job may have sites."""
BUSY, IDLE, AWAY, LEFT = "busy", "idle", "away", "left"
"""What a site's process is doing: its task, nothing; its turn is over; it ends because it was asked to."""
STATES = (BUSY, IDLE, AWAY, LEFT)


@dataclass
class _Sign:
    state: str
    at: float


class Presence:
    """The signs of life of one federation's sites; NVFlare's threads write them, the controller's reads them.

    Args:
        patience_s: seconds of silence after which a site counts as gone. clock: seconds that only grow.
    """

    def __init__(self, *, patience_s: float = SILENT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._signs: dict[str, _Sign] = {}
        self._lost: dict[str, float] = {}
        self._worked_at = clock()
        self._lock = threading.Lock()

    def heard(self, site: str, state: str) -> None:
        """Note a sign of life; a state that is none counts as idle, for a sign it is.

        Whose it is is what it says. A site that speaks in the name of one that is gone makes the others wait for the
        time of a task, as it could by being slow itself; and with names that are nobody's it gains no more than this.
        """
        with self._lock:
            if site not in self._signs and len(self._signs) >= MOST_NAMES:
                return
            now, before = self._clock(), self._signs.get(site)
            if BUSY in (state, before.state if before else IDLE):
                self._worked_at = now
            self._signs[site] = _Sign(state if state in STATES else IDLE, now)

    def ask(self) -> None:
        """Note that a new task is there for the sites: nobody is at work on it yet."""
        with self._lock:
            self._worked_at = self._clock()
            for sign in self._signs.values():
                sign.state = IDLE if sign.state == BUSY else sign.state

    def silent(self, sites: Collection[str]) -> dict[str, str]:
        """Return those of these sites that seem to be gone, and in words since when."""
        with self._lock:
            now = self._clock()
            found: dict[str, str] = {}
            for site in sorted(sites):
                sign = self._signs.get(site)
                if sign is None or sign.state == AWAY:
                    continue
                since = sign.at if sign.state == BUSY else max(sign.at, self._worked_at)
                if sign.state == LEFT and now - sign.at > LEFT_S:
                    found[site] = f"{site}: its process has left the job"
                elif sign.state != LEFT and now - since > self._patience_s:
                    found[site] = f"{site}: no sign of life for {now - sign.at:.0f} s"
            return found

    def lose(self, site: str) -> None:
        """Wait for a site no more, until it gives a sign of life again."""
        with self._lock:
            self._lost[site] = self._signs[site].at

    def lost(self) -> set[str]:
        """Return the sites that were lost and have not been heard of since."""
        with self._lock:
            back = [site for site, at in self._lost.items() if self._signs[site].at > at]
            for site in back:
                del self._lost[site]
            return set(self._lost)

    def without_a_word(self, sites: Collection[str]) -> set[str]:
        """Return those of these sites that were heard of and have not said that they leave."""
        with self._lock:
            return {site for site in sites if site in self._signs and self._signs[site].state in (BUSY, IDLE)}

    def never_heard(self, sites: Collection[str]) -> list[str]:
        """Return those of these sites whose process never said anything."""
        with self._lock:
            return sorted(site for site in sites if site not in self._signs)

    def seconds_since(self, site: str) -> float:
        """Return how long ago a site was last heard of."""
        with self._lock:
            return self._clock() - self._signs[site].at
