"""How much memory a process may have: the machine's, or what a container or a service is allowed of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

GROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux says what a group of processes may have (its second version), and which group this process is of."""
_AT_MOST, _USED, _DETAILS = "memory.max", "memory.current", "memory.stat"
_GIVEN_BACK = "inactive_file "
"""Of a group's memory, files that were read once: the system takes them back before it ends anybody."""


def memory_in_all(*, groups: Path = GROUPS, own: Path = OWN_GROUP) -> int:
    """Return the bytes that this process and its like may have together.

    Args:
        groups, own: where the system says so.
    """
    return min([psutil.virtual_memory().total, *(most for most, _ in _limits(groups, own))])


def memory_free(*, groups: Path = GROUPS, own: Path = OWN_GROUP) -> int:
    """Return the bytes that this process can still take now, without anybody being ended for it."""
    left = (max(0, most - used) for most, used in _limits(groups, own))
    return min([psutil.virtual_memory().available, *left])


def _limits(groups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use of every group that this process is of and that has a limit, the innermost first."""
    path = ""
    with suppress(OSError):
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
        path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
    place = groups / path.strip("/")
    while True:
        with suppress(OSError, ValueError):  # no such file, and no limit is the word "max"
            most = int((place / _AT_MOST).read_text(encoding="ascii"))
            yield most, _used(place)
        if place in (groups, place.parent):
            return
        place = place.parent


def _used(place: Path) -> int:
    """Return the bytes that a group holds and could not give back."""
    used = int((place / _USED).read_text(encoding="ascii"))
    with suppress(OSError, ValueError):
        for line in (place / _DETAILS).read_text(encoding="ascii").splitlines():
            if line.startswith(_GIVEN_BACK):
                used -= int(line.removeprefix(_GIVEN_BACK))
    return max(0, used)
