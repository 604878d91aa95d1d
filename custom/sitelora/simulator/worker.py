"""The worker of a simulated run: does the sites' tasks, one after the other, and keeps what every task needs.

In NVFlare's simulator with fewer threads than sites, every task is a process of its own. Importing torch and MONAI,
building a network and preparing cases took longer there than training. So the simulator's process starts one of these a
thread (``run_workers``). The sites' processes hand it their tasks, and it keeps libraries, one frozen base, sites and
prepared cases. It does what a site's process would do, by the same class (``federation.site_tasks``).

**What it accepts, and from whom.**

- Its command is fixed (``COMMAND``): nothing of a job, a site or a server is in it, in its working folder or in its
  environment. NVFlare puts a job's ``app/custom`` onto the search path of the sites' processes, and not onto its own.
- It listens on a Unix socket in a folder that only this user may enter (0700, judged anew by whoever connects), and
  asks the kernel for the user at the other end. Nothing listens on a network.
- It takes one JSON object with exactly the keys of ``KEYS``, and one packet in safetensors' format: a task by its name,
  a ticket, and a job, read by the very readers that a site's process uses. A job is values, and its bundle a name among
  those installed. There is no pickle, no class by name, no path. Where a site keeps its state, its data, its policy's
  bounds and the modules whose methods a job may name, it reads in the site's own files, as a site's process does.
- The site's process has judged the job by the site's policy before it asks, and NVFlare's filters are in that process.
- It ends with the run, whatever ends that: it holds the other end of a pipe of the simulator's process, which the
  kernel closes however that process dies.

Only NVFlare's simulator has it started, and only sites that the simulator runs ask for it (``flare.taking_turns``): in
POC and production there is none, and a job cannot ask for one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sitelora.federation.frames import receive, send
from sitelora.federation.job import Job
from sitelora.federation.site_tasks import Outcome, SiteTasks
from sitelora.federation.task_names import TASKS
from sitelora.federation.ticket import Ticket
from sitelora.late_imports import import_late
from sitelora.names import checked_name
from sitelora.policy.own_config import OwnConfig
from sitelora.sharing.sealed import seal, unseal

COMMAND = (sys.executable, "-P", "-m", "sitelora.simulator.worker")
"""``-P``: no module is taken from the working folder."""
KEYS = ("job", "site", "task", "ticket")
OURS = "sitelora"
LOCAL = "local"
"""NVFlare's name of a participant's own configuration, beside its jobs."""
_LAST_WORD_S = 5.0

logger = logging.getLogger(__name__)


class RequestError(ValueError):
    """What was asked is no task of a site."""


class Worker:
    """Answers who connects, one at a time.

    Args:
        listening: a bound Unix socket. root: the simulator's workspace, with a folder a site.
        alone: the run has no other worker, so that this one will have every site.
    """

    def __init__(self, listening: socket.socket, root: Path, *, alone: bool = False) -> None:
        self._listening = listening
        self._root = root
        self._alone = alone
        self._tasks = SiteTasks()
        self._said: dict[str, _Said] = {}
        self._last: tuple[Ticket, Job] | None = None
        self._next: list[str] = []

    def serve(self) -> None:
        """Answer for as long as the process lives."""
        while True:
            connection, _ = self._listening.accept()
            with connection, contextlib.suppress(OSError):  # who has gone wants no answer
                if same_user(connection):
                    self.answer(connection)
            self._prepare()

    def _prepare(self) -> None:
        """Prepare the run's next sites for as long as nobody asks: their turn comes while NVFlare starts processes."""
        while self._next and not select.select([self._listening], [], [], 0)[0]:
            site = self._next.pop(0)
            if self._last is not None and (self._root / site / LOCAL).is_dir():
                with contextlib.suppress(ValueError), self._saying(site):
                    self._tasks.prepare(self._last[0], own=self._own(site), job=self._last[1])

    def answer(self, connection: socket.socket) -> None:
        """Do one task and answer it; what is logged meanwhile goes to the site's process, whose log it belongs to."""
        send(connection, {"taken": True})  # whoever never hears it knows that nothing was done
        try:
            outcome = self._asked(connection)
        except OSError:
            raise
        except Exception as error:  # what a task raises is an outcome: this is what was asked
            send(connection, {"refused": f"{type(error).__name__}: {error}"})
            return
        if outcome.answer is None:
            send(connection, {"code": outcome.code})
        else:
            send(connection, {"report": outcome.answer.report}, seal(outcome.answer.tensors))

    def _asked(self, connection: socket.socket) -> Outcome:
        asked, packet = receive(connection)
        if sorted(asked) != sorted(KEYS) or asked["task"] not in TASKS or not isinstance(asked["ticket"], dict):
            raise RequestError(f"found {sorted(asked)}, expected {', '.join(KEYS)} with a task of {', '.join(TASKS)}")
        site = checked_name("site", asked["site"])
        ticket, job = Ticket.read(asked["ticket"]), Job.from_json(asked["job"])
        own, tensors = self._own(site), unseal(packet)
        if self._alone and self._last is None:
            self._next = list(job.sites)
        self._next = [each for each in self._next if each != site]
        self._last = (ticket, job)
        with self._saying(site) as said:
            said.go_to(connection)
            return self._tasks.do(asked["task"], ticket, tensors, own=own, job=job, aborted=lambda: _gone(connection))

    def _own(self, site: str) -> OwnConfig:
        return OwnConfig.read(name=site, folder=self._root / site / LOCAL, simulated=True)

    @contextlib.contextmanager
    def _saying(self, site: str) -> Iterator[_Said]:
        """Let what our modules log be this site's."""
        said = self._said.setdefault(site, _Said())
        logging.getLogger(OURS).addHandler(said)
        try:
            yield said
        finally:
            logging.getLogger(OURS).removeHandler(said)
            said.go_to(None)


class _Said(logging.Handler):
    """What our own modules log of a site: it goes to whoever asks for a task of it, at once or when one comes."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._connection: socket.socket | None = None
        self._waiting: list[logging.LogRecord] = []

    def go_to(self, connection: socket.socket | None) -> None:
        """Send what waits, and from now on everything, to who has connected."""
        self._connection = connection
        if connection is not None:
            waiting, self._waiting = self._waiting, []
            for record in waiting:
                self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        if self._connection is None:
            self._waiting.append(record)
            return
        with contextlib.suppress(OSError):
            send(self._connection, {"log": [record.name, record.levelno, self.format(record)]})


def same_user(connection: socket.socket) -> bool:
    """Say whether the other end runs as this user, where the kernel tells; the folder's rights say it everywhere."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(user == os.getuid())


def _gone(connection: socket.socket) -> bool:
    """Say whether who asked has closed its end; it has nothing more to say after its request."""
    ready, _, _ = select.select([connection], [], [], 0)
    return bool(ready)


def _end_with_run(folder: Path) -> None:
    """Wait for the end of the run and end this process: where it works, that is noted in the run."""
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LAST_WORD_S)
    os._exit(1)


def _import_what_tasks_need() -> None:
    """Import while NVFlare starts the first site's process."""
    import monai.bundle  # noqa: F401

    import sitelora.federation.site
    import sitelora.tasks.segmentation  # noqa: F401


def main() -> None:
    """Take the first line of standard input as the place to work at, and work until standard input ends."""
    place: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    folder = Path(place["folder"])
    threading.Thread(target=_end_with_run, args=(folder,), name="sitelora_run", daemon=True).start()
    import_late()
    ours = logging.getLogger(OURS)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    _import_what_tasks_need()
    Worker(socket.socket(fileno=int(place["socket"])), Path(place["root"]), alone=bool(place["alone"])).serve()


if __name__ == "__main__":
    main()
