"""The parts of a proof-of-concept run: where it writes, its ports, its processes, NVFlare's commands."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.site_kit import project

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
# A server named localhost listens on 127.0.0.1 only; any other name makes it listen on every interface.
PROJECT, SERVER = "sitelora_poc", "localhost"
ADMIN, LEAD = "admin@sitelora.example", "lead@sitelora.example"
SIX = [f"site-{number}" for number in range(1, 7)]


class PocError(RuntimeError):
    """Something a person has to know; printed without a traceback."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything of a run lies; ``data`` and ``download`` outlive the run, the rest is made anew."""

    root: Path

    @property
    def system(self) -> Path:
        """The system that NVFlare prepares: one kit per participant."""
        return self.root / "poc"

    @property
    def data(self) -> Path:
        """The phantom of every site; kept, since it never changes."""
        return self.root / "data"

    @property
    def download(self) -> Path:
        """What the server held at the end of the job."""
        return self.root / "download"

    def environment(self, data: Path) -> dict[str, str]:
        """Return the environment of every process: all that is written goes below ``root``."""
        kept = {key: value for key, value in os.environ.items() if key != "NVFLARE_STARTUP_KIT_DIR"}
        folders = {
            "HOME": self.root / "home",
            "TMPDIR": self.root / "tmp",
            "SITELORA_HOME": self.root / "sitelora",
            "NVFLARE_POC_WORKSPACE": self.system,
            "MPLCONFIGDIR": self.root / "home" / "matplotlib",
            "XDG_CACHE_HOME": self.root / "home" / "cache",
            "XDG_CONFIG_HOME": self.root / "home" / "config",
        }
        search = [str(REPOSITORY / "custom"), *filter(None, [kept.get("PYTHONPATH")])]
        return {
            **kept,
            **{key: str(path) for key, path in folders.items()},
            "SITELORA_DATA": str(data),
            "PYTHONPATH": os.pathsep.join(search),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
        }

    def renew(self) -> None:
        """Empty what a run makes anew."""
        for name in ("poc", "home", "tmp", "sitelora", "download"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in ("home", "tmp", "sitelora", "download", "data"):
            (self.root / name).mkdir(parents=True, exist_ok=True)


_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print one line with the seconds since the start; plain, for terminals and logs alike."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}", flush=True)


def sites_of(job: Path) -> list[str]:
    """Return the sites that the job's ``deploy_map`` names, in its order; none for ``@ALL``."""
    try:
        meta = json.loads((job / "meta.json").read_text(encoding="utf-8"))
        targets = [name for names in meta["deploy_map"].values() for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PocError(
            f"{job} is no NVFlare job folder: expected a meta.json with a deploy_map in it, found {error!r}. "
            "Give a folder such as jobs/iat_prostate."
        ) from error
    return [name for name in dict.fromkeys(targets) if name not in ("server", "@ALL")]


def write_project(target: Path, *, sites: Sequence[str], port: int) -> list[str]:
    """Write project.yml for these sites and ports, without any for six of them; return the sites' names."""
    named = list(sites) or SIX
    project.write_project(target, name=PROJECT, server=SERVER, sites=named, admin=ADMIN, lead=LEAD, port=port)
    return named


def require_free_ports(ports: Sequence[int]) -> None:
    """Refuse to begin where another program listens: NVFlare would wait for it, or join it.

    Raises:
        PocError: a port is taken; the message names it and the way out.
    """
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise PocError(
                    f"Port {port} on this machine is taken ({error.strerror}); needed are {list(ports)}. "
                    "Stop what listens there, often an earlier `nvflare poc start`, or give --port NUMBER."
                ) from error


class Flare:
    """NVFlare's command line in the run's environment, with JSON answers and a log of all that it said."""

    def __init__(self, *, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start one command, in a session of its own so that Ctrl-C reaches this script alone."""
        say("$ nvflare " + " ".join(arguments).replace(f"{self._log.parent}{os.sep}", ""))
        nvflare = str(Path(sys.executable).parent / "nvflare")
        command = [nvflare, "--format", "json", "--connect-timeout", "30", *arguments]
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ nvflare {' '.join(arguments)}\n")
            log.flush()
            process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], *, what: str, timeout_s: float) -> dict:
        """Wait for a command and return the ``data`` of its answer.

        Raises:
            PocError: it failed, said nothing readable, or took longer than ``timeout_s``.
        """
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise PocError(f"{what}: no end after {timeout_s:.0f} s. NVFlare's words: {self._log}") from error
        with self._log.open("a", encoding="utf-8") as log:
            log.write(output)
        answers = [line for line in output.splitlines() if line.startswith("{")]
        answer = json.loads(answers[-1]) if answers else {}
        if process.returncode != 0 or not answers:
            said = " ".join(str(answer[key]) for key in ("message", "detail", "hint") if answer.get(key))
            raise PocError(f"{what} failed (exit {process.returncode}). {said} NVFlare's words: {self._log}")
        return answer.get("data") or {}

    def end(self) -> None:
        """End the commands that still run, because the script itself was asked to end."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def run(self, *arguments: str, timeout_s: float) -> dict:
        """Run one command to its end; ``start`` and ``finish`` in one."""
        return self.finish(self.start(*arguments), what=f"nvflare {arguments[0]} {arguments[1]}", timeout_s=timeout_s)
