"""Progress over the cases of sites: one redrawn line on a terminal, a plain line a site elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR = 24
REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 15.0


class CaseProgress:
    """Called with the site, the cases done and the cases of that site.

    Args:
        verb: what is done, for example "writing".
        things: what is counted.
        stream: where it goes; standard error by default, so that results can be piped.
    """

    def __init__(self, verb: str, *, things: str = "cases", stream: TextIO | None = None) -> None:
        self._verb, self._things = verb, things
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._last = time.monotonic()

    def __call__(self, site: str, done: int, total: int) -> None:
        """Show how far a site is."""
        now = time.monotonic()
        finished = done >= total
        pause = REDRAW_SECONDS if self._terminal else PLAIN_SECONDS
        if not finished and now - self._last < pause:
            return
        self._last = now
        if not self._terminal:
            self._write(f"{self._verb} {site}: {done} of {total} {self._things}\n")
            return
        filled = BAR * done // max(total, 1)
        bar = "#" * filled + "." * (BAR - filled)
        self._write(f"\r{self._verb} {site:<12} [{bar}] {done}/{total}" + ("\n" if finished else ""))

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
