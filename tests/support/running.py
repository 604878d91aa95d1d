"""Processes by a word of their command, past those that have ended and that nobody has waited for."""

import time
from collections.abc import Iterable

import psutil

PATIENCE_S = 60


def running(processes: Iterable[psutil.Process], word: str) -> list[psutil.Process]:
    """Those whose command has the word; another test's zombie has no command."""
    found = []
    for process in processes:
        try:
            if word in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:  # a zombie is one
            continue
    return found


def started(parent: psutil.Process, word: str) -> psutil.Process:
    """The one child whose command has the word; a process that was started a moment ago has no command yet."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := running(parent.children(), word)):
        assert time.monotonic() < deadline, f"{parent} has no child {word}"
        time.sleep(0.01)
    (one,) = found
    return one
