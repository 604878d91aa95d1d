"""What was read and prepared of a case, kept for the next model that is scored on it.

A site scores two models a round on its validation cases and four on its test cases: preparing them, once each, is the
same work. Everything that is kept in a process shares one room; what no longer fits is prepared again each time. (A
place is not given to the latest case: all cases are walked through in one order, and none would ever be met again.)
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

ROOM = 512 * 1024**2
"""Bytes that all kept cases of a process may take (our choice: 300 volumes of 128 x 128 x 24 with their masks)."""

T = TypeVar("T")


class _Entry(NamedTuple):
    file: tuple[int, int, int]
    value: Any
    size: int


class KeptCases:
    """Remembers what was made of files under one set of settings, as long as the files stay what they are.

    Args:
        room: bytes that this one and all others of the process may take together.
    """

    _all: ClassVar[weakref.WeakSet[KeptCases]] = weakref.WeakSet()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, *, room: int = ROOM) -> None:
        self._room = room
        self._entries: dict[tuple[str, str], _Entry] = {}
        with self._lock:
            self._all.add(self)

    @property
    def size(self) -> int:
        """Bytes that are kept here."""
        return sum(entry.size for entry in list(self._entries.values()))

    @classmethod
    def taken(cls) -> int:
        """Return the bytes that are kept in this process."""
        return sum(each.size for each in cls._all)

    def get(self, what: str, path: str | Path, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return what was made of a file, or make it; nobody may change it.

        Args:
            what: of a file there may be several things.
            path: of the file; another size, time or number of it is another file.
            make: makes it. size: bytes of what was made.
        """
        key, now = (what, str(path)), _identity(Path(path))
        entry = self._entries.get(key)
        if entry is not None and entry.file == now:
            value: T = entry.value
            return value
        self._entries.pop(key, None)
        made = make()
        size_now = size(made)
        with self._lock:
            if self.taken() + size_now <= self._room and _identity(Path(path)) == now:
                self._entries[key] = _Entry(now, made, size_now)
        return made


def _identity(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from what it is later; of one that is not there, nothing (who reads it says so)."""
    try:
        found = path.stat()
    except OSError:
        return (-1, -1, -1)
    return found.st_size, found.st_mtime_ns, found.st_ino
