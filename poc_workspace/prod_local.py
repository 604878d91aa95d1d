"""Runs every command of docs/operations.md as it stands there: real kits, real processes, mutual TLS, loopback.

Each participant has a folder, a home and a temporary folder of its own; the package is installed from a wheel, in an
environment of its own. The page is the script: a block ``sh WHO`` is typed by that participant, line by line, a block
``sh WHO refused`` has to fail in its last line. What the page leaves to a person, handing out archives and reading a
job's id, is done here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from poc_system import HERE, REPOSITORY, PocError, require_free_ports, say

from sitelora import __version__
from sitelora.federation.files import json_if_readable
from sitelora.site_kit.certificates import Certificate
from sitelora.site_kit.processes import end_leftovers

PAGE = REPOSITORY / "docs" / "operations.md"
SITES = ("site-1", "site-2")
DESKS = {"admin": "lead", "checkout": "machine"}
"""Who sits at another's desk."""
COPIED = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "constraints.txt", "custom", "bundles")
STEP = re.compile(
    r"^```sh (?P<who>\S+)(?P<refused> refused)?\n(?P<lines>.*?)^```$|^<!-- until [^:]*: (?P<run>\S+) -->$",
    re.MULTILINE | re.DOTALL,
)
LINE_TIMEOUT_S = 600


class Stage:
    """The machine on which all of it happens: folders, environment, what has been said."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.job = ""
        self.said: dict[str, str] = {}
        self._lock = threading.Lock()

    def folder(self, who: str) -> Path:
        """Return a participant's folder."""
        return self.root / DESKS.get(who, who)

    def environment(self, who: str) -> dict[str, str]:
        """Return the environment of what a participant types: nothing of this shell's SiteLoRA, NVFlare or home."""
        foreign = ("SITELORA_", "NVFLARE_", "PYTHONPATH", "VIRTUAL_ENV", "XDG_", "PIP_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        own, venv = self.folder(who), self.folder("machine") / "venv" / "bin"
        search = [str(venv), str(Path(sys.executable).parent), kept.get("PATH", "")]
        return {
            **kept,
            "PATH": os.pathsep.join(search),
            "HOME": str(own / "home"),
            "TMPDIR": str(own / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            # Nothing is fetched: what the wheel needs lies in the environment that runs this.
            **{f"PIP_{key}": value for key, value in (("NO_INDEX", "1"), ("NO_DEPS", "1"), ("QUIET", "1"))},
            **{"PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            **{"SITE": who, "JOB": self.job, "VERSION": __version__},
        }

    def set_up(self) -> None:
        """Begin from nothing."""
        shutil.rmtree(self.root, ignore_errors=True)
        for who in ("machine", "lead", "server", *SITES):
            for name in ("home", "tmp"):
                (self.folder(who) / name).mkdir(parents=True)
        for name in COPIED:
            source, target = REPOSITORY / name, self.folder("machine") / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy2(source, target)

    def type_line(self, who: str, line: str, *, refused: bool = False) -> None:
        """Run one line as a participant types it.

        Raises:
            PocError: it failed, or did not where it has to.
        """
        say(f"{who}$ {line}")
        typed = f"{line} --port {self.port}" if line.startswith("sitelora site project ") else line
        with (self.root / f"{who}.log").open("a", encoding="utf-8") as log:
            log.write(f"$ {line}\n")
            log.flush()
            began = log.tell()
            try:
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", typed],
                    cwd=self.folder(who),
                    env=self.environment(who),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=LINE_TIMEOUT_S,
                )
            except subprocess.TimeoutExpired as error:
                raise PocError(f"{who}: no end after {LINE_TIMEOUT_S} s: {line}") from error
        with (self.root / f"{who}.log").open(encoding="utf-8", errors="replace") as log:
            log.seek(began)
            text = log.read()
        if (done.returncode != 0) != refused:
            end = "\n".join(text.splitlines()[-25:])
            wanted = "a refusal" if refused else "0"
            raise PocError(f"{who}: exit code {done.returncode}, expected {wanted}: {line}\n{end}")
        with self._lock:
            self.said[line] = self.said.get(line, "") + text
            found = re.search(r"^job_id: ([0-9a-f-]{36})$", text, re.MULTILINE)
            self.job = found[1] if found and "job submit" in line else self.job
        self._by_hand()

    def _by_hand(self) -> None:
        """Hand out archives; put what the wheel needs within reach of the new environment."""
        for archive in self.folder("lead").glob("handed/*.tgz"):
            to = "server" if archive.stem == "localhost" else archive.stem
            shutil.move(archive, self.folder(to) / archive.name)
        venv = self.folder("machine") / "venv"
        nvflare = venv / "bin" / "nvflare"
        if venv.is_dir() and not nvflare.exists():
            (packages,) = venv.glob("lib/python*/site-packages")
            places = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
            (packages / "elsewhere.pth").write_text("\n".join(places) + "\n", encoding="utf-8")
            code = f"#!{venv}/bin/python\nimport sys\nfrom nvflare.cli import main\nsys.exit(main())\n"
            nvflare.write_text(code, encoding="utf-8")
            nvflare.chmod(0o755)

    def wait_for_a_round(self, run: str) -> None:
        """Wait until the server has written a round of a run.

        Raises:
            PocError: it does not come, or the run has ended before.
        """
        folder, began = self.folder("server") / "state" / "iat_prostate" / run / "server", time.monotonic()
        while not list(folder.glob("round_*")):
            time.sleep(0.5)
            if (folder / "result.json").exists() or time.monotonic() - began > LINE_TIMEOUT_S:
                raise PocError(f"no round of the run {run} appears in {folder}")


def steps(page: str) -> Iterator[re.Match[str]]:
    """Yield the blocks that are typed, and what is waited for, in the page's order."""
    yield from STEP.finditer(page)


def lines_of(block: str) -> list[str]:
    """Return a block's lines, those that go on with a backslash as one."""
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def play(stage: Stage, page: str) -> None:
    """Do all that the page says.

    Raises:
        PocError: a line did not do what the page says.
    """
    for step in steps(page):
        if step["run"]:
            stage.wait_for_a_round(step["run"])
            continue
        lines, refused = lines_of(step["lines"]), bool(step["refused"])
        _together(stage, SITES if step["who"] == "sites" else (step["who"],), lines, refused=refused)


def _together(stage: Stage, people: tuple[str, ...], lines: list[str], *, refused: bool) -> None:
    """Let several participants type the same, each at its own desk, at the same time."""
    failed: list[Exception] = []

    def one(who: str) -> None:
        try:
            for number, line in enumerate(lines, start=1):
                stage.type_line(who, line, refused=refused and number == len(lines))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def check(stage: Stage) -> None:
    """See to it that the page came true: what a reader would look at.

    Raises:
        PocError: it did not.
    """
    server, lead, site = (stage.folder(who) for who in ("server", "lead", "site-1"))
    told: dict[str, bool] = {}
    for run, rounds in (("first", 2), ("second", 4)):
        result = json_if_readable(server / "state" / "iat_prostate" / run / "server" / "result.json")
        told[f"the run {run} has done its {rounds} rounds"] = (result.get("completed"), result.get("rounds_done")) == (
            True,
            rounds,
        )
    pages = (lead / "report" / "index.html", site / "report" / "index.html")
    told["there is a report, at the lead and at a site"] = all(page.is_file() for page in pages)
    twice, unfit = stage.said["sitelora site why results/$JOB"], stage.said["sitelora site why localhost $JOB"]
    told["why the same job is refused"] = "first" in twice and "uid" in twice
    told["why no site takes a job, each by name"] = all(f"{name}: " in unfit for name in SITES) and (
        "largest_clip_norm" in unfit
    )
    before, now = (
        Certificate.read(site / "site-1" / name / "client.crt").serial for name in ("startup.before", "startup")
    )
    told["the renewed certificate is another one"] = before != now
    roots = {(site / "site-1" / name / "rootCA.pem").read_bytes() for name in ("startup.before", "startup")}
    told["its root is the same"] = len(roots) == 1
    told["the site's own file is as it was"] = json.loads((site / "site-1/local/sitelora.json").read_bytes())["policy"][
        "level"
    ] == ("strict")
    strays = [path for who in ("server", *SITES) for path in stage.folder(who).glob("tmp/nvflare")]
    told["no participant keeps jobs in a temporary folder"] = not strays
    told["a site that left has left"] = not (stage.folder("site-2") / "site-2").exists()
    wrong = [what for what, true in told.items() if not true]
    if wrong:
        raise PocError("did not come true: " + "; ".join(wrong))
    for what in told:
        say(f"held: {what}")


def main() -> int:
    """Play the page and return the exit code."""
    parser = argparse.ArgumentParser(prog="make prod-local", description=__doc__)
    parser.add_argument("--work", type=Path, default=HERE / "run" / "prod_local", help="where everything goes")
    parser.add_argument("--port", type=int, default=8002, help="the server's port; the next one is used too (8002)")
    options = parser.parse_args()
    stage = Stage(options.work.resolve(), options.port)
    try:
        end_leftovers(stage.root, patience_s=0)
        require_free_ports([options.port, options.port + 1])
        stage.set_up()
        play(stage, PAGE.read_text(encoding="utf-8"))
        check(stage)
        if stayed := end_leftovers(stage.root, patience_s=60):
            raise PocError(f"{len(stayed)} processes were still there after the shutdown: {stayed}")
    except PocError as error:
        say(f"FAILED: {error}")
        return 1
    finally:
        if ended := end_leftovers(stage.root, patience_s=0):
            say(f"{len(ended)} processes were ended: {ended}")
    say(f"done, and no process of it is left. Everything lies in {stage.root}; the report: lead/report/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
