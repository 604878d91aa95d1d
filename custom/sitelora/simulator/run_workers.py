"""The workers of a simulated run: started and held by the simulator's process, found and asked by a site's.

A run's folder lies in the system's folder for temporary files, is named by the user and the simulator's process, and is
open to this user alone; in it a socket and a lock for each worker. What a worker is and accepts: ``worker``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sitelora.federation.files import PRIVATE_FILE, PRIVATE_FOLDER
from sitelora.federation.frames import WorkerGone, end_by_input, receive, send
from sitelora.simulator.worker import COMMAND, OURS

_LOOK_S = 0.2
_LOCK = ".lock"

logger = logging.getLogger(__name__)


def folder_of(process: int) -> Path:
    """Return the folder of the run that the simulator's process with this id has."""
    return Path(tempfile.gettempdir()) / f"sitelora_{os.getuid()}_{process}"


class RunWorkers:
    """The workers of the run of this process; closed, or ended with the process, they are gone.

    Args:
        root: the simulator's workspace. count: how many; as many as tasks can be done at a time.
    """

    def __init__(self, root: Path, count: int) -> None:
        self._folder = folder_of(os.getpid())
        self._workers: list[subprocess.Popen[bytes]] = []
        try:
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir(mode=PRIVATE_FOLDER)
            if not is_private(self._folder):
                raise PermissionError(f"{self._folder} is another user's, or open to one")
            for each in self._folder.iterdir():  # of a process that had this id before
                each.unlink()
            for number in range(count):
                self._workers.append(_started(self._folder, number, root.absolute(), alone=count == 1))
        except OSError as error:  # among them: a name that is too long for a socket's
            logger.warning("every task of this run imports and builds what it needs anew, without a worker: %s", error)

    def close(self) -> None:
        """End them."""
        end_by_input(self._workers)
        if self._workers:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._workers = []


def is_private(folder: Path) -> bool:
    """Say whether a folder is this user's own and nobody else may enter it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def ask_worker(
    folder: Path,
    asked: Mapping[str, Any],
    packet: bytes,
    *,
    aborted: Callable[[], bool],
) -> tuple[dict[str, Any], bytes] | None:
    """Have a worker of a run do a task; what it logs is logged here.

    Args:
        folder: of the run, from ``folder_of``. asked: as of ``worker.KEYS``. packet: in safetensors' format.
        aborted: whether the answer is wanted no more.

    Returns:
        What it answered, with the answer's packet; an empty object where the answer is wanted no more; None where there
        is no worker to ask, and nothing was done.

    Raises:
        WorkerGone: it has ended in the middle of the task.
    """
    with _free(folder) as connection:
        if connection is None:
            return None
        taken = False
        try:
            send(connection, asked, packet)
            while True:
                ready, _, _ = select.select([connection], [], [], _LOOK_S)
                if aborted():
                    return {}, b""
                if not ready:
                    continue
                words, back = receive(connection)
                if "taken" in words:
                    taken = True
                    continue
                if "log" not in words:
                    return words, back
                name, level, text = words["log"]
                if str(name).partition(".")[0] == OURS:
                    logging.getLogger(str(name)).log(int(level), "%s", text)
        except OSError as error:
            if not taken:
                return None
            raise WorkerGone(
                "the worker of this run has ended in the middle of the task: killed, or out of memory; the simulator's "
                "output says more, -t with as many threads as sites does without it"
            ) from error


@contextlib.contextmanager
def _free(folder: Path) -> Iterator[socket.socket | None]:
    """Connect to a worker that nobody else has, and keep it; None where there is none."""
    for lock in sorted(folder.glob(f"*{_LOCK}")) if is_private(folder) else ():
        with open(lock, "rb") as held, socket.socket(socket.AF_UNIX) as connection:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                connection.connect(str(lock.with_suffix("")))
            except OSError:  # another site has it, or it has ended
                continue
            yield connection
            return
    yield None


def _started(folder: Path, number: int, root: Path, *, alone: bool) -> subprocess.Popen[bytes]:
    place = folder / str(number)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        worker = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, cwd=folder, pass_fds=[listening.fileno()], start_new_session=True
        )
        told = {"folder": str(folder), "socket": listening.fileno(), "root": str(root), "alone": alone}
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(told).encode() + b"\n")
        worker.stdin.flush()
    os.close(os.open(place.with_suffix(_LOCK), os.O_CREAT | os.O_WRONLY, PRIVATE_FILE))
    return worker
