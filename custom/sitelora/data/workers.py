"""How long a loader waits for the processes that prepare its batches, before it says that they are gone."""

from __future__ import annotations

PATIENCE = 600
"""Seconds that one batch may take. Without an end a site waits for ever for a process that cannot hand its batch over:
on a full disk for temporary files, torch's worker writes its error to the log and goes on without that batch."""


def patience(num_workers: int) -> int:
    """Return a loader's ``timeout`` in seconds; 0, which is none, where a site prepares its batches itself."""
    return PATIENCE if num_workers else 0
