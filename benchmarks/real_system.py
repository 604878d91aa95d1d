"""A provisioned federation for benchmarks: real processes, mutual TLS, loopback, a folder of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from cuttable import Wire

from sitelora.federation.job import Job
from sitelora.federation.job_folder import JobFolder
from sitelora.flare.lead import Lead, ServerAwayError
from sitelora.site_kit.install import install
from sitelora.site_kit.processes import end_all, processes_of
from sitelora.site_kit.project import write_project
from sitelora.site_kit.site_files import own_file
from sitelora.site_kit.startup_kit import StartupKit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "poc_workspace"))
from poc_system import ADMIN, LEAD, PROJECT, SERVER, Layout  # noqa: E402

SITES = ("site-1", "site-2", "site-3")
READY_S = 300
JOB_PROCESSES = ("nvflare.private.fed.app.client.worker_process", "nvflare.private.fed.app.server.runner_process")


class System:
    """A server and sites as `nvflare provision` makes them.

    Args:
        root: the folder. data: root of the sites' data. sites: their names.
        in_every_process: a folder that comes first on every process's PYTHONPATH. environment: added to theirs.
        wired: sites that reach the server through a wire that can be cut.

    Attributes:
        wires: by site.
    """

    def __init__(
        self,
        root: Path,
        data: Path,
        sites: Sequence[str],
        *,
        in_every_process: Path | None = None,
        environment: Mapping[str, str] | None = None,
        wired: Sequence[str] = (),
    ) -> None:
        self.layout = Layout(root=root)
        self.layout.renew()
        self.layout.system.mkdir(parents=True)
        self.sites = tuple(sites)
        self.plain = {**self.layout.environment(data), "OMP_NUM_THREADS": "1"}
        first = [str(in_every_process)] if in_every_process else []
        paths = os.pathsep.join([*first, self.plain["PYTHONPATH"]])
        self._environment = {**self.plain, **(environment or {}), "PYTHONPATH": paths}
        project = root / "project.yml"
        self.server, self.person = SERVER, LEAD
        port = _free_ports()
        write_project(project, name=PROJECT, server=SERVER, sites=self.sites, admin=ADMIN, lead=LEAD, port=port)
        self.wires = {site: Wire(port) for site in wired}
        _lead_through(project, {site: wire.port for site, wire in self.wires.items()})
        nvflare = str(Path(sys.executable).parent / "nvflare")
        command = [nvflare, "provision", "-p", str(project), "-w", str(self.layout.system), "--force"]
        subprocess.run(command, env=self.plain, cwd=root, check=True, capture_output=True)
        (self.kits,) = self.layout.system.glob("*/prod_00")
        own = own_file(home=root / "sitelora", data=data, level=None, rules={}, settings={})
        for who in (self.server, *sites):
            install(StartupKit.read(self.kits / who), own)

    @property
    def kit(self) -> Path:
        """The startup kit of the person who submits."""
        return self.kits / self.person

    def start(self, *who: str) -> None:
        """Start participants by their own kits."""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for name in who:
            script = str(self.kits / name / "startup" / "start.sh")
            subprocess.run(["bash", script], env=self._environment, cwd=self.layout.root, check=True, **quiet)

    def wait_until_ready(self) -> None:
        """Wait until the server takes the person's kit and all sites are connected."""
        lead, began = Lead(self.kit), time.monotonic()
        while True:
            try:
                if lead.connected() >= set(self.sites):
                    break
            except ServerAwayError:
                pass
            if time.monotonic() - began > READY_S:
                raise RuntimeError(f"server and sites did not start within {READY_S} s")
            time.sleep(1)
        lead.close()

    def processes(self, who: str) -> list[psutil.Process]:
        """Return the live processes of a participant."""
        return processes_of(self.kits / who)

    def job_processes(self, who: str) -> list[psutil.Process]:
        """Return those of them that do a participant's part of a job; one that ends meanwhile is none."""
        found = []
        for one in self.processes(who):
            with contextlib.suppress(psutil.Error):
                if any(word in JOB_PROCESSES for word in one.cmdline()):
                    found.append(one)
        return found

    def run(self, job: Path, *options: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start `sitelora run` of a job folder as a person would; the result goes to ``root``/download."""
        command = ["run", str(job), "--kit", str(self.kit), "--out", str(self.layout.download), *options]
        with log.open("w") if log else contextlib.nullcontext() as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "sitelora.cli", *command],
                env={**self.plain, "PYTHONUNBUFFERED": "1"},
                cwd=self.layout.root,
                stdout=stream,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            )

    def end(self) -> None:
        """End what is left of it."""
        end_all(self.layout.system)
        for wire in self.wires.values():
            wire.close()


def write_job(place: Path, *, rounds: int, settings: Mapping[str, Any]) -> Path:
    """Write the job of these benchmarks, for which all of ``SITES`` are needed, and return its folder."""
    job = Job(
        bundle="iat_segmentation",
        dataset="prostate",
        federation="iat_prostate",
        sites=SITES,
        rounds=rounds,
        min_sites=len(SITES),
        uid="run-1",
        settings=settings,
    )
    return JobFolder.write(job, place, marker=False).path


def _lead_through(project: Path, ports: Mapping[str, int]) -> None:
    """Let sites reach the server of a project by other ports."""
    content = yaml.safe_load(project.read_text(encoding="utf-8"))
    for one in content["participants"]:
        if one["name"] in ports:
            one["connect_to"] = {"host": SERVER, "port": ports[one["name"]]}
    project.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _free_ports() -> int:
    """Return a port that is free together with the next one."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
