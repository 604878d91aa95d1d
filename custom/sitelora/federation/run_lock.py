"""Who is at work in a run: one lock a participant, held by a process and gone with it.

The kernel decides (``flock``): it frees a lock when its process ends, however it ends, so a dead one holds nobody up.
The file says who it is: host, process id and when that process started, because ids are given out again. It stays when
the work is done, with the time and the reason: `sitelora status` reads it, and knows a process that was killed by a
file that says nothing of an end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import psutil

from sitelora.federation.events import is_moment
from sitelora.federation.files import PRIVATE_FILE, json_if_readable, private_folder, saying
from sitelora.typed_json import from_json

_SAME_START_S = 2.0
_LARGEST_PID = 2**31 - 1
_held: dict[Path, Callable[[str], None]] = {}
"""By lock that this process holds: what notes the end of the work, with a reason."""


class RunningError(RuntimeError):
    """Another process is at work in the same run; nothing was touched."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that works, or worked last, for one participant.

    Attributes:
        pid, host, started: of the process; ``started`` and the others in seconds since 1970.
        since: when it took the lock. ended: when it gave it back, None while it works and after it was killed.
        reason: why it ended; empty when its work was done.
    """

    pid: int
    host: str
    started: float
    since: float
    ended: float | None = None
    reason: str = ""

    @classmethod
    def here(cls) -> Holder:
        """Return this process."""
        started = psutil.Process().create_time()
        return cls(pid=os.getpid(), host=socket.gethostname(), started=started, since=round(time.time(), 3))

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Return what a lock says, or None where there is none that can be read, or one of no possible process."""
        try:
            found = from_json(cls, json_if_readable(path))
        except ValueError:
            return None
        times = (found.started, found.since, found.ended or 0.0)
        return found if 0 < found.pid <= _LARGEST_PID and all(map(is_moment, times)) else None

    def alive(self) -> bool | None:
        """Say whether the process is still there; None on another machine, where nobody here can know."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:
            return True  # another user's, so it lives
        except psutil.Error:
            return False

    def working(self) -> bool | None:
        """Say whether it still works: it has not said that it ended, and it lives (None: on another machine)."""
        return False if self.ended is not None else self.alive()

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        there = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"pid {self.pid}{there}, since {since}"


@contextlib.contextmanager
def working(lock: Path, what: str, *, stopped: Callable[[str], None] = lambda reason: None) -> Iterator[None]:
    """Hold a participant's lock while it works; whatever ends the work is noted in it.

    Args:
        lock: from ``RunFolder.lock``. what: who works on what, for the message.
        stopped: called with the reason where something else ends the work than its own end: an error, Ctrl-C, a
            request by signal. Not after ``kill -9``, which nobody can note: the lock's file tells it afterwards.

    Raises:
        RunningError: another process holds it, at once.
    """
    private_folder(lock.parent)
    with saying(lock):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunningError(_running(what, Holder.read(lock))) from error
        holder = Holder.here()
        _note(descriptor, lock, holder)

        def end(reason: str) -> None:
            if _held.pop(lock, None) is None:
                return  # a signal was faster
            with contextlib.suppress(OSError):  # a full disk must not hide what ended the work
                if reason:
                    stopped(reason)
                _note(descriptor, lock, replace(holder, ended=round(time.time(), 3), reason=reason))

        _held[lock] = end
        end_on_request()
        try:
            yield
        except BaseException as error:
            end(_reason(error))
            raise
        end("")
    finally:
        os.close(descriptor)
        _default_again()


def end_on_request() -> None:
    """From now on note a SIGTERM in every lock that this process holds, before it ends the process as it would have.

    Only the main thread may ask for that, and a program that has its own way with the signal keeps it.
    """
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def require_idle(locks: list[Path], what: str) -> None:
    """Refuse to go on where a process is still at work in any of these places.

    Raises:
        RunningError: one is.
    """
    for lock in locks:
        holder = Holder.read(lock)
        if lock not in _held and holder is not None and holder.working():
            raise RunningError(_running(what, holder))


def _running(what: str, holder: Holder | None) -> str:
    return (
        f"{what} is running ({holder or 'in a process that has only just begun'}); nothing was touched. Wait for it, "
        "stop it, or start a run with another uid; `sitelora status` shows it"
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped on request"
    return f"{type(error).__name__}{': ' if str(error) else ''}{error}"[:500]


def _note(descriptor: int, lock: Path, holder: Holder) -> None:
    data = (json.dumps(vars(holder)) + "\n").encode()
    with saying(lock, needs=len(data)):
        os.ftruncate(descriptor, 0)
        if os.pwrite(descriptor, data, 0) < len(data):  # the disk took a part of it, and will say why no more
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _terminated(number: int, frame: FrameType | None) -> None:
    for end in list(_held.values()):
        end(f"ended by {signal.Signals(number).name}")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _default_again() -> None:
    main = threading.current_thread() is threading.main_thread()
    if main and not _held and signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
