"""A folder beside the results for what is large and not kept: an image unpacked, a prediction that is not yet whole.

It holds a patient's voxels, so it goes whatever ends the process: the process removes it, and where that was killed,
the next one that writes to the same place. The kernel tells which is which (``flock``): it frees a lock with its
process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sitelora.disk import saying

_PREFIX, _LOCK = ".predict-", "lock"
_STALE_S = 86_400
"""Age from which a folder without a lock is nobody's (our choice): it was made and not yet locked, or is older."""


@contextlib.contextmanager
def scratch_in(out: Path, *, elsewhere: str) -> Iterator[Path]:
    """Yield a new empty folder in a folder that is there, for the owner only; remove those whose process is gone.

    Args:
        elsewhere: as of ``saying``.

    Raises:
        DiskError: it cannot be made.
    """
    _remove_leftovers(out)
    with saying(out, elsewhere=elsewhere):
        folder, lock = _locked(out)
    try:
        yield folder
    finally:
        os.close(lock)  # first: a network's file system keeps what is open, under another name
        shutil.rmtree(folder, ignore_errors=True)


def _locked(out: Path) -> tuple[Path, int]:
    """Make a folder and hold its lock; another process may have taken it for a leftover in between."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=out, prefix=_PREFIX))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken = True
        except OSError:  # no locks on this file system: then nobody takes the folder either
            taken = False
        else:
            taken = not (folder / _LOCK).exists()
        if not taken:
            return folder, lock
        os.close(lock)


def _remove_leftovers(out: Path) -> None:
    for folder in out.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            try:
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                if time.time() - folder.stat().st_mtime > _STALE_S:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
