"""Starts and stops the processes of a kit, and knows which they are.

NVFlare's own start script calls whatever ``python3`` the search path has, takes a left-over number of a process for a
running one, and is stopped by a question on the terminal; here the Python is this one, what a crash left is cleared
away, and nothing is asked.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from sitelora.federation.files import PRIVATE_FILE
from sitelora.site_kit.startup_kit import SERVER, KitError, StartupKit

_SCRIPTS = ("/startup/start.sh", "/startup/sub_start.sh")
_NOTES = ("pid.fl", "daemon_pid.fl", "shutdown.fl", "restart.fl")
_SHUTDOWN = "shutdown.fl"
_LOG, _START_LOG = "log.txt", "start.log"
_READY = {SERVER: "Server started", "site": "Successfully registered client"}


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return NVFlare's live processes of a kit, or of all kits in a folder, and their descendants.

    They are known by their command lines: a start script of a kit there, or an NVFlare program given a kit.
    Another program that only looks at a file there, an editor or a pager, is not one of them.

    Args:
        folder: as it stands in the command lines: absolute, without links.
    """
    prefix = f"{folder}{os.sep}"
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            below = [word for word in words if word == str(folder) or word.startswith(prefix)]
            script = any(word.endswith(_SCRIPTS) for word in below)
            flare = any(word.startswith("nvflare.private.") or Path(word).name == "nvflare" for word in words)
            if script or (below and flare):
                found.update({one.pid: one for one in (process, *process.children(recursive=True))})
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return list(found.values())


def start(kit: StartupKit, *, patience_s: float) -> bool:
    """Start a site or the server in the background, and wait until its log says that it is ready.

    Returns:
        Whether it is ready; else it goes on trying, and ``start.log`` and ``log.txt`` in the kit say what is wrong.

    Raises:
        KitError: it runs already.
    """
    environment = _prepared(kit)
    log = kit.path / _LOG
    seen = log.stat().st_size if log.is_file() else 0
    with open(kit.path / _START_LOG, "ab", opener=lambda path, flags: os.open(path, flags, PRIVATE_FILE)) as stream:
        subprocess.Popen(
            ["bash", str(kit.startup / "sub_start.sh")],
            env=environment,
            cwd=kit.path,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _until(lambda: _READY[kit.kind] in _new_text(log, seen), patience_s)


def run(kit: StartupKit) -> None:
    """Become the site or the server: this process is replaced by NVFlare's start script, as a service wants it.

    Raises:
        KitError: it runs already.
    """
    environment = _prepared(kit)
    os.chdir(kit.path)
    os.execvpe("bash", ["bash", str(kit.startup / "sub_start.sh")], environment)


def stop(kit: StartupKit, *, patience_s: float) -> tuple[int, int]:
    """End everything that runs of a kit, a job too; other sites and the server are not asked.

    Returns:
        How many processes there were, and how many had to be killed after ``patience_s``.
    """
    there = processes_of(kit.path)
    if not there:
        _clear(kit)
        return 0, 0
    (kit.path / _SHUTDOWN).touch()
    for process in there:  # NVFlare's loop would wait and kill; asked like this, a job notes what ended it
        with contextlib.suppress(psutil.Error):
            if not any(word.endswith(_SCRIPTS) for word in process.cmdline()):
                process.terminate()
    killed = end_leftovers(kit.path, patience_s=patience_s)
    _clear(kit)
    return len(there), len(killed)


def end_leftovers(folder: Path, *, patience_s: float) -> list[int]:
    """Wait for the processes of a kit, or of all kits in a folder, then kill those that stayed; return their ids."""
    return [] if _until(lambda: not processes_of(folder), patience_s) else end_all(folder)


def end_all(folder: Path) -> list[int]:
    """Kill every process of a kit, or of all kits in a folder, by its id, until there is none; return the ids."""
    ended: list[int] = []
    while stayed := processes_of(folder):
        for process in stayed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stayed, timeout=10)
        ended += [process.pid for process in stayed]
    return ended


def _prepared(kit: StartupKit) -> Mapping[str, str]:
    """Clear away what a crash has left and return the environment: this Python is found first."""
    running = processes_of(kit.path)
    if running:
        raise KitError(
            f"{kit.path} runs already (process {running[0].pid}); `sitelora site stop {kit.path}` ends it first"
        )
    _clear(kit)
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def _clear(kit: StartupKit) -> None:
    for name in _NOTES:
        (kit.path / name).unlink(missing_ok=True)


def _new_text(log: Path, seen: int) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(seen if log.stat().st_size >= seen else 0)
        return stream.read().decode("utf-8", errors="replace")


def _until(condition: Callable[[], bool], patience_s: float) -> bool:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience_s:
            return False
        time.sleep(0.5)
    return True
