"""Processes by a word of their command, past those that have ended and that nobody has waited for."""

from collections.abc import Iterable

import psutil


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
