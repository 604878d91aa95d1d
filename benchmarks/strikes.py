"""What strikes a running system: processes die, a wire is cut, disk or memory end, a file is damaged.

Each strike happens while one site's process of the job is held at a moment (``moments/sitecustomize.py``), and lets it
go on as soon as it may.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from real_system import SITES, System

STRUCK = "site-2"
BACK_AFTER_S, CUT_S = 5.0, 30.0
WRITABLE = 4096
"""Bytes of a file that can still be written on the full disk."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A run with one process held.

    Attributes:
        system: it runs in. run: its folder. signals: the folder by which it says that it is held, and is let go.
    """

    system: System
    run: Path
    signals: Path

    @property
    def pid(self) -> int:
        """Of the held process."""
        return int((self.signals / "there").read_text())

    def let_go(self) -> None:
        """Let the held process go on, and any that comes to the same moment."""
        (self.signals / "go_on").touch()


def kill_job_of_site(held: Held) -> None:
    """Kill -9 the site's process of the job; its own process starts another with the next job."""
    _kill(held.system.job_processes(STRUCK))
    time.sleep(BACK_AFTER_S)
    held.let_go()


def kill_site(held: Held) -> None:
    """Kill -9 all processes of the site, and start it again."""
    _kill_and_start(held, STRUCK)


def kill_server(held: Held) -> None:
    """Kill -9 all processes of the server, and start it again."""
    _kill_and_start(held, held.system.server)


def kill_all(held: Held) -> None:
    """Kill -9 all processes of all, and start them again."""
    _kill_and_start(held, held.system.server, *SITES)


def cut_network(held: Held) -> None:
    """Cut the wire between the site and the server for half a minute; the site works on."""
    wire = held.system.wires[STRUCK]
    wire.cut()
    held.let_go()
    time.sleep(CUT_S)
    wire.mend()


def fill_disk(held: Held) -> None:
    """Let the site's process write no file any further (RLIMIT_FSIZE); the next process of it may again."""
    resource.prlimit(held.pid, resource.RLIMIT_FSIZE, (WRITABLE, WRITABLE))
    held.let_go()


def limit_memory(held: Held) -> None:
    """Let the site's process take no more memory than it has (RLIMIT_AS); the next process of it may again."""
    most = psutil.Process(held.pid).memory_info().vms
    resource.prlimit(held.pid, resource.RLIMIT_AS, (most, most))
    held.let_go()


def damage_state_of_site(held: Held) -> None:
    """Kill -9 the site and cut the file of its newest state to a half, as a disk does that did not sync."""
    _kill_and_start(held, STRUCK, damaged=held.run / STRUCK)


def damage_state_of_server(held: Held) -> None:
    """Kill -9 the server and cut the file of its newest state to a half."""
    _kill_and_start(held, held.system.server, damaged=held.run / "server")


STRIKES: dict[str, Callable[[Held], None]] = {
    "site's process": kill_job_of_site,
    "whole site": kill_site,
    "server": kill_server,
    "all": kill_all,
    "network cut": cut_network,
    "disk full": fill_disk,
    "memory limit": limit_memory,
    "site's newest state": damage_state_of_site,
    "server's newest state": damage_state_of_server,
}
"""By the name that the page calls them."""


def _kill_and_start(held: Held, *who: str, damaged: Path | None = None) -> None:
    _kill([one for name in who for one in held.system.processes(name)])
    if damaged is not None:
        newest = max(damaged.glob("round_*/manifest.json")).with_name("state.safetensors")
        newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    time.sleep(BACK_AFTER_S)
    held.let_go()
    held.system.start(*who)


def _kill(struck: list[psutil.Process]) -> None:
    if not struck:
        raise RuntimeError("no process was found to be killed")
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees the other die
        for one in struck:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)
    psutil.wait_procs(struck, timeout=10)
