"""NVFlare's simulator as a child: started apart from the terminal, followed, and ended with all that it started.

Its workers make sessions of their own, so ending the process group would leave them behind; descendants are
remembered while they live, and ended by their id.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

import sitelora
from sitelora.federation.files import PRIVATE_FILE, private_folder
from sitelora.home import DATA_VARIABLE, HOME_VARIABLE

PATIENCE_S = 10.0
PRIVATE_UMASK = 0o077
"""What NVFlare writes beside our files, in its workspace, is for the owner only too."""


def environment(*, home: Path, data: Path | None) -> dict[str, str]:
    """Return the environment of a simulated federation: its home and data, this very package, no thread pile-up."""
    package = str(Path(sitelora.__file__).resolve().parent.parent)
    result = {
        **os.environ,
        HOME_VARIABLE: str(home),
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    result.setdefault("OMP_NUM_THREADS", "1")  # a process a site: each with all cores would fight over them
    if data is not None:
        result[DATA_VARIABLE] = str(data)
    return result


def simulator_command(*, job: Path, workspace: Path, threads: int, gpus: str | None = None) -> list[str]:
    """Return NVFlare's own command for a job folder; ``gpus`` as of ``gpus.require_gpus``."""
    command = [sys.executable, "-m", "nvflare.cli", "simulator", str(job), "-w", str(workspace), "-t", str(threads)]
    return command if gpus is None else [*command, "-gpu", gpus]


class ProcessFamily:
    """A command and everything that it starts.

    Args:
        command: what to run. folder: where. env: of all processes. log: where everything that they print goes.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], log: Path) -> None:
        private_folder(folder)
        private_folder(log.parent)
        log.touch(mode=PRIVATE_FILE)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE_UMASK,
            )
        self._family: dict[int, psutil.Process] = {}

    def returncode(self) -> int | None:
        """Return the command's exit code, or None while it runs; remembers what it has started so far."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                self._family[child.pid] = child
        return self._process.poll()

    def end(self) -> list[int]:
        """End everything that is still there, gently and then not; return the ids of what had to be ended."""
        self.returncode()
        if self._process.poll() is None:
            self._process.terminate()
        ended = self._end_family()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        return ended + self._end_family()

    def wait_for_stragglers(self) -> list[int]:
        """After the command's own end: give the rest time, then end what stayed; return the ids of that."""
        self._wait(PATIENCE_S)
        return self._end_family()

    def _end_family(self) -> list[int]:
        alive = self._alive()
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        self._wait(PATIENCE_S / 2)
        for process in self._alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._wait(PATIENCE_S)
        return [process.pid for process in alive]

    def _wait(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _alive(self) -> list[psutil.Process]:
        """Return who still runs; one that has ended and was not waited for by its parent does not."""
        alive = []
        for process in self._family.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        return alive
