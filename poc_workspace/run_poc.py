"""One job over NVFlare's proof-of-concept system: real processes, mutual TLS, loopback, nothing left behind.

Everything is written below ``poc_workspace/run``: kits, job storage, NVFlare's own configuration (``HOME``),
temporary files, the sites' data and private state. The steps are NVFlare's own commands, shown as they run.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from poc_system import (
    ADMIN,
    HERE,
    REPOSITORY,
    SERVER,
    Flare,
    Layout,
    PocError,
    require_free_ports,
    say,
    sites_of,
    write_project,
)

from sitelora.federation.job_folder import JobFolder
from sitelora.site_kit.install import install
from sitelora.site_kit.processes import end_leftovers
from sitelora.site_kit.site_files import own_file
from sitelora.site_kit.startup_kit import SITE, StartupKit

NOTHING: dict[str, Any] = {"data": None, "level": None, "rules": {}}
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 90


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run_poc.sh",
        description="Prepare the sites a job names, start them, submit it, wait, download, check, stop.",
    )
    default = REPOSITORY / "jobs" / "iat_prostate"
    parser.add_argument("job", nargs="?", type=Path, default=default, help="job folder (jobs/iat_prostate)")
    parser.add_argument("--data", type=Path, help="root of the sites' data; without it the job's phantom is made")
    parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="seconds for the job (1800)")
    parser.add_argument("--port", type=int, default=8002, help="the server's port; the next one is used too (8002)")
    parser.add_argument("--policies", action="store_true", help="install every kit with a policy: see README.md")
    parser.add_argument("--run-folder", type=Path, default=HERE / "run", help="where everything goes (run/)")
    return parser.parse_args()


def make_phantom(job: Path, layout: Layout, environment: dict[str, str]) -> None:
    """Make every site's folder of the phantom of the job's dataset; what is there already is kept.

    Raises:
        PocError: the command failed, or there is no such phantom; its own words come before.
    """
    phantom = f"{JobFolder.read(job).job.dataset}_phantom"
    say(f"$ sitelora prepare {phantom} --out {layout.data}")
    command = [sys.executable, "-m", "sitelora.cli", "prepare", phantom, "--out", str(layout.data)]
    made = subprocess.run(command, env=environment, cwd=layout.root, stdin=subprocess.DEVNULL)
    if made.returncode != 0:
        raise PocError(f"The phantom could not be made (exit {made.returncode}); give --data ROOT to use other data.")


def install_policies(kits: Path, layout: Layout, data: Path, sites: list[str]) -> None:
    """Install every kit as `sitelora site install` does, with a policy that allows IAT on masks and no code."""
    rules = {"bundles": ["iat_segmentation"], "site_code": "none"}
    for name in (SERVER, *sites):
        kit = StartupKit.read(kits / name)
        at_site = {"data": data, "level": "consortium", "rules": rules} if kit.kind == SITE else NOTHING
        install(kit, own_file(home=layout.root / "sitelora", settings={}, **at_site))
    say(f"the server and {len(sites)} sites are installed with a policy")


def follow(process: subprocess.Popen[str], log: Path, *, timeout_s: float) -> None:
    """Show the server's lines on rounds while the job runs, and a sign of life when there are none."""
    seen, spoke, began = 0, time.monotonic(), time.monotonic()
    while process.poll() is None and time.monotonic() - began < timeout_s:
        time.sleep(1)
        try:
            text = log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # not there yet, or moved to the job's storage at its end
            text = ""
        for line in text[seen:].splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            seen += len(line)
            if re.search(r"\bround\b", line, flags=re.IGNORECASE) and " - INFO - " in line:
                say("server: " + re.sub(r"^\[[^]]*\] - ", "", line.split(" - INFO - ", 1)[1]).strip())
                spoke = time.monotonic()
        if time.monotonic() - spoke > 30:
            say("still running")
            spoke = time.monotonic()


def complaints(kits: Path, downloaded: Path) -> str:
    """Return the ends of a job's error logs that are not empty: the sites', the server's as downloaded."""
    logs = [
        *sorted(kits.glob(f"*/{downloaded.name}/error_log.txt")),
        downloaded / "workspace" / "error_log.txt",
    ]
    texts = {log: log.read_text(encoding="utf-8", errors="replace").strip() for log in logs if log.is_file()}
    return "\n".join(f"--- {log}\n" + "\n".join(text.splitlines()[-15:]) for log, text in texts.items() if text)


def check_result(downloaded: Path, sites: list[str]) -> str:
    """Read ``result.json`` and return one line on it: success is stated by the server, never inferred.

    Raises:
        PocError: no result, not completed, a round missing, or a site without an answer in the last round.
    """
    found = sorted(path for path in downloaded.rglob("result.json") if "job" not in path.relative_to(downloaded).parts)
    if len(found) != 1:
        raise PocError(f"Expected one result.json in {downloaded}, found {len(found)}: the server never finished.")
    result = json.loads(found[0].read_text(encoding="utf-8"))
    done, planned = result.get("rounds_done"), result.get("rounds_planned")
    if not result.get("completed") or not done or done != planned:
        reasons = "; ".join(result.get("warnings", [])) or "no warning is given"
        raise PocError(
            f"{found[0]}: {done} of {planned} rounds done, completed is {result.get('completed')}: {reasons}"
        )
    last = result["rounds"][-1]["sites"]
    absent = [site for site in sites if last.get(site, {}).get("status") != "ok"]
    if absent:
        raise PocError(f"{found[0]}: no update in the last round from {', '.join(absent)}.")
    return f"{found[0]}: {done} rounds, {len(last)} sites"


def run(options: argparse.Namespace, layout: Layout) -> None:
    """Do all steps; whatever happens, stop the system and leave no process.

    Raises:
        PocError: a step failed, or the system did not stop by itself.
    """
    job = options.job.resolve()
    named = sites_of(job)
    stale = end_leftovers(layout.system, patience_s=0)
    if stale:
        say(f"ended {len(stale)} processes that an earlier run of this folder had left")
    require_free_ports([options.port, options.port + 1])
    layout.renew()
    project = layout.root / "project.yml"
    sites = write_project(project, sites=named, port=options.port)
    data = options.data.resolve() if options.data else layout.data
    environment = layout.environment(data)
    if not options.data:
        make_phantom(job, layout, environment)

    flare = Flare(environment=environment, log=layout.root / "nvflare.log")
    flare.run("poc", "prepare", "-i", str(project), "--force", timeout_s=120)
    (kits,) = layout.system.glob("*/prod_00")
    if options.policies:
        install_policies(kits, layout, data, sites)
    kit = ("--startup-kit", str(kits / ADMIN))
    clean = False
    try:
        flare.run("poc", "start", "--timeout", str(START_TIMEOUT_S), timeout_s=START_TIMEOUT_S + 60)
        say(f"server and {len(sites)} sites are ready: {', '.join(sites)}")
        job_id = flare.run("job", "submit", "-j", str(job), *kit, timeout_s=120)["job_id"]
        waiting = flare.start("job", "wait", job_id, "--timeout", str(int(options.timeout)), *kit)
        follow(waiting, kits / SERVER / job_id / "log.txt", timeout_s=options.timeout + 60)
        finish(flare, waiting, kit=kit, downloaded=layout.download / job_id)
        say(check_result(layout.download / job_id, sites))
    finally:
        clean = stop(flare, layout)
    if not clean:
        raise PocError("the job is done, but the system did not stop by itself")


def finish(flare: Flare, waiting: subprocess.Popen[str], *, kit: tuple[str, str], downloaded: Path) -> None:
    """Wait for the job's end, download what the server holds, and read all error logs.

    Raises:
        PocError: the job failed, or an error log is not empty; the message holds their ends.
    """
    job_id, failure = downloaded.name, ""
    try:
        flare.finish(waiting, what=f"job {job_id}", timeout_s=60)
    except PocError as error:
        failure = str(error)
    try:
        flare.run("job", "download", job_id, "-o", str(downloaded.parent), *kit, timeout_s=300)
    except PocError as error:
        failure = failure or str(error)
    said = complaints(Path(kit[1]).parent, downloaded)
    if failure or said:
        raise PocError(f"{failure or 'The job ended, but error logs are not empty.'}\n{said}".strip())


def stop(flare: Flare, layout: Layout) -> bool:
    """Stop the system as NVFlare does and see to it that no process of this run is left.

    Returns:
        Whether it stopped by itself; what did not is ended, and named.
    """
    failure = ""
    flare.end()
    try:
        flare.run("poc", "stop", timeout_s=STOP_TIMEOUT_S)
    except PocError as error:
        failure = str(error)
    ended = end_leftovers(layout.system, patience_s=30)
    if ended:
        say(f"{len(ended)} processes did not stop by themselves and were ended: {ended}. {failure}".strip())
        return False
    say("stopped; no process of this run is left")
    return True


def on_signal(number: int, _frame: FrameType | None) -> None:
    """Turn a request to end into an exception, so that ``finally`` stops the system; once, not twice."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    raise PocError(f"ended by {signal.Signals(number).name}")


def main() -> int:
    options = arguments()
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, on_signal)
    layout = Layout(root=options.run_folder.resolve())
    try:
        run(options, layout)
    except PocError as error:
        say(f"FAILED: {error}")
        return 1
    say(f"done. Everything of this run lies in {layout.root}")
    for result in layout.root.glob("sitelora/*/*/server/result.json"):
        say(f"the report: sitelora report {result.parent.parent} --out {layout.root / 'report'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
