"""NVFlare's simulator as a child: started apart from the terminal, followed, and ended with all that it started.

Its workers make sessions of their own, so ending the process group would leave them behind; descendants are
remembered while they live, and ended by their id.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

import sitelora
from sitelora.home import DATA_VARIABLE, HOME_VARIABLE

PATIENCE_S = 10.0


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


class Simulator:
    """One run of ``nvflare simulator``.

    Args:
        job: the job folder. workspace: NVFlare empties it. threads: sites that run at once.
        env: of all processes. log: where everything that they print goes.
    """

    def __init__(self, *, job: Path, workspace: Path, threads: int, env: Mapping[str, str], log: Path) -> None:
        command = [sys.executable, "-m", "nvflare.cli", "simulator", str(job), "-w", str(workspace), "-t", str(threads)]
        log.parent.mkdir(parents=True, exist_ok=True)
        workspace.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=workspace.parent,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._family: dict[int, psutil.Process] = {}

    def returncode(self) -> int | None:
        """Return its exit code, or None while it runs; remembers what it has started so far."""
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
        """After its own end: give its workers time to end, then end those that stayed; return their ids."""
        psutil.wait_procs(list(self._family.values()), timeout=PATIENCE_S)
        return self._end_family()

    def _end_family(self) -> list[int]:
        alive = [process for process in self._family.values() if process.is_running()]
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, stayed = psutil.wait_procs(alive, timeout=PATIENCE_S / 2)
        for process in stayed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stayed, timeout=PATIENCE_S)
        return [process.pid for process in alive]
