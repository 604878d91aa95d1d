"""What dies and when, and what becomes of the run: kill -9 of processes of a real system, at exact moments.

    python benchmarks/survival.py --minutes 90      begin with what is missing, one JSON a cell; again to go on
    python benchmarks/survival.py --page            write docs/results/survival.md from the JSON

A system of its own for every cell: `nvflare provision`, a server and three sites with mutual TLS on loopback, the
phantom, the shipped executor and controller, `sitelora run` as a person would. One site is held at the moment (see
``moments/sitecustomize.py``), then the processes are killed, and started again by their kits after a few seconds, as a
service unit does. Complete means: all rounds are done, and every site's trained state and the server's tensors are
equal bit for bit to those of a run in which nothing died.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import psutil
from real_system import ROOT, SITES, System, write_job

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.run_result import RunResult

RESULTS = ROOT / "benchmarks" / "results" / "survival"
PAGE = ROOT / "docs" / "results" / "survival.md"
STRUCK, ROUND, ROUNDS = "site-2", 1, 3
TARGETS = ("site's process", "whole site", "server", "all")
MOMENTS = ("before training", "in training", "while sending")
UNDISTURBED = ("nothing", "never")
BACK_AFTER_S = 5.0
SETTINGS = {"image_size": 32, "slices": 3, "base": None, "precision": "fp32", "epochs": 2}


def kill(system: System, target: str) -> list[str]:
    """Kill -9 what the cell says, all at once, and return who has to be started again."""
    below = {
        "site's process": [STRUCK],
        "whole site": [STRUCK],
        "server": [system.server],
        "all": [system.server, *SITES],
    }[target]
    found = system.job_processes if target == "site's process" else system.processes
    struck = [one for name in below for one in found(name)]
    if not struck:
        raise RuntimeError(f"no process of {below} was found")
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees the other die
        for one in struck:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)
    psutil.wait_procs(struck, timeout=10)
    return [] if target == "site's process" else below


def bits_of(run: Path) -> str:
    """Return one hash of every site's trained state and the server's tensors after the last round."""
    found = sorted(run.glob(f"*/round_{ROUNDS - 1:03d}/manifest.json"))
    if len(found) != len(SITES) + 1:
        return f"{len(found)} of {len(SITES) + 1} participants wrote the last round"
    whole = hashlib.sha256(str(RunResult.read(run / "server" / "result.json").fingerprint).encode())
    for manifest in found:
        told = json.loads(manifest.read_text(encoding="utf-8"))
        if manifest.parts[-3] != "server":
            whole.update(told["state_sha256"].encode())
    return whole.hexdigest()[:16]


def one_cell(target: str, moment: str, root: Path, data: Path) -> dict:
    """Run one cell and return what is to be known of it."""
    held = {
        "SURVIVAL_MOMENT": "" if moment == "never" else moment,
        "SURVIVAL_SITE": STRUCK,
        "SURVIVAL_ROUND": str(ROUND),
        "SURVIVAL_FOLDER": str(root / "signals"),
    }
    system = System(root, data, SITES, in_every_process=ROOT / "benchmarks" / "moments", environment=held)
    (root / "signals").mkdir()
    folder = write_job(root / "job", rounds=ROUNDS, settings=SETTINGS)
    try:
        system.start(system.server, *SITES)
        log = root / "run.log"
        system.wait_until_ready()
        began = time.monotonic()
        person = system.run(folder, "--patience", "600", log=log)
        killed_at, before = 0.0, 0
        try:
            if target != UNDISTURBED[0]:
                _wait_for(root / "signals" / "there", person)
                before = len(log.read_text().splitlines())
                killed_at = time.monotonic()
                back = kill(system, target)
                time.sleep(BACK_AFTER_S)
                (root / "signals" / "go_on").touch()
                system.start(*back)
            code = person.wait(timeout=1800)
        finally:
            person.kill()
            person.wait()
        ended = time.monotonic()
        lines = log.read_text().replace(str(root), "").splitlines()
        run = system.layout.root / "sitelora" / "iat_prostate" / "run-1"
        result = RunResult.if_readable(run / "server" / "result.json") or RunResult()
        return {
            "target": target,
            "moment": moment,
            "completed": code == 0 and result.completed and result.rounds_done == ROUNDS,
            "submissions": sum(line.startswith("submitted as job") for line in lines),
            "seconds": round(ended - (killed_at or began), 1),
            "bits": bits_of(run) if result.completed else "",
            "named": any(STRUCK in line for line in lines[before:] if line.startswith(("ended:", "waiting for "))),
            "told": lines[before:],
        }
    finally:
        system.end()


def _wait_for(file: Path, person: subprocess.Popen) -> None:
    began = time.monotonic()
    while not file.exists():
        if person.poll() is not None or time.monotonic() - began > 900:
            raise RuntimeError("the run ended, or did not come, to the moment")
        time.sleep(0.05)


def cells() -> list[tuple[str, str]]:
    return [UNDISTURBED, *((target, moment) for target in TARGETS for moment in MOMENTS)]


def file_of(target: str, moment: str) -> Path:
    return RESULTS / f"{target}_{moment}.json".replace(" ", "_").replace("'", "")


def write_page() -> None:
    """Write the page from the JSON."""
    known = {cell: json.loads(file_of(*cell).read_text()) for cell in cells() if file_of(*cell).is_file()}
    bits = known.get(UNDISTURBED, {}).get("bits")
    rows = []
    for (target, moment), cell in known.items():
        if target == UNDISTURBED[0]:
            continue
        first = next((line for line in cell["told"] if line.startswith("ended:")), "")
        rows.append(
            f"| {target} | {moment} | {'yes' if cell['completed'] else '**no**'} "
            f"| {'yes' if bits and cell['bits'] == bits else '**no**'} | {cell['submissions']} | {cell['seconds']:.0f} "
            f"| {'yes' if cell['named'] else 'no'} | {first.removeprefix('ended: ') or '–'} |"
        )
    version = next(iter(known.values()))["versions"] if known else {}
    lines = [
        "<!-- written by `python benchmarks/survival.py --page`; do not edit -->",
        "",
        "# What survives what",
        "",
        f"`kill -9` in round {ROUND + 1} of {ROUNDS}, at exact moments, in a system of real processes with mutual TLS "
        f"on loopback: a server, {len(SITES)} sites, all needed (`min_sites` {len(SITES)}). The struck site is "
        f"{STRUCK}; what was killed whole is started again by its kit after {BACK_AFTER_S:.0f} s. `sitelora run` is "
        "left alone. Complete: all rounds are done; same bits: every site's trained state and the server's tensors "
        "are those of a run in which nothing died.",
        "",
        "| killed | when | complete | same bits | submissions | seconds from kill to end | named | what was told |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"{len(rows)} of {len(TARGETS) * len(MOMENTS)} cells. Two processor cores, shared with other work: seconds "
        f"are upper bounds. {', '.join(f'{name} {number}' for name, number in version.items())}.",
        "",
    ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=90, help="begin no further cell after that")
    parser.add_argument("--only", nargs=2, metavar=("TARGET", "MOMENT"), help="one cell, made anew")
    parser.add_argument("--page", action="store_true", help="write the page and nothing else")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the systems there, to look at")
    options = parser.parse_args()
    if options.page:
        write_page()
        return 0
    RESULTS.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that no system is left behind
    began = time.monotonic()
    wanted = [tuple(options.only)] if options.only else [cell for cell in cells() if not file_of(*cell).is_file()]
    with tempfile.TemporaryDirectory(prefix="survival_") as place:
        data = Path(place) / "data"
        make_phantom(data, size=TINY, sites=list(SITES))
        for target, moment in wanted:
            if time.monotonic() - began > options.minutes * 60:
                break
            root = (options.keep or Path(place)) / file_of(target, moment).stem
            root.mkdir(parents=True)
            cell = one_cell(target, moment, root.resolve(), data)
            cell["versions"] = {name: metadata.version(name) for name in ("sitelora", "nvflare", "torch")}
            cell["processors"] = psutil.cpu_count()
            file_of(target, moment).write_text(json.dumps(cell, indent=1) + "\n", encoding="utf-8")
            print(f"{target}, {moment}: completed {cell['completed']}, {cell['submissions']} submissions", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
