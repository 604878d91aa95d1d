"""Whether a process that a lock names still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

SAME_START_S = 2.0


def process_lives(holder: Mapping[str, Any]) -> bool | None:
    """Say whether the process of a lock lives; None on another machine, where nobody here can know.

    Args:
        holder: ``pid``, and where the lock says so its ``host`` and the time it ``started`` (seconds since 1970): ids
            are given out again, so a process that started at another time is another one.
    """
    if holder.get("host") not in (None, socket.gethostname()):
        return None
    pid, started = int(holder["pid"]), holder.get("started")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, so it lives
    try:
        import psutil
    except ImportError:
        return True
    try:
        process = psutil.Process(pid)
        same = not isinstance(started, int | float) or abs(process.create_time() - started) < SAME_START_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
