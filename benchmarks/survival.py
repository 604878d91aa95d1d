"""What goes wrong and when, and what becomes of the run: nine faults of a real system, at three exact moments.

    python benchmarks/survival.py --minutes 90      begin with what is missing, one JSON a cell; again to go on
    python benchmarks/survival.py --page            write docs/results/survival.md from the JSON

A system of its own for every cell: `nvflare provision`, a server and three sites with mutual TLS on loopback, the
phantom, the shipped executor and controller, `sitelora run` as a person would. One site is held at the moment (see
``moments/sitecustomize.py``), then the fault strikes (``strikes.py``); what is killed whole is started again by its kit
after a few seconds, as a service unit does. Complete means: all rounds are done, and every site's trained state and the
server's tensors are equal bit for bit to those of a run in which nothing went wrong.
"""

from __future__ import annotations

import argparse
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
from strikes import BACK_AFTER_S, CUT_S, STRIKES, STRUCK, WRITABLE, Held

from sitelora.comparison.tables import markdown
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.federation.events import read_events
from sitelora.federation.run_folder import RunFolder
from sitelora.run_result import RunResult

RESULTS = ROOT / "benchmarks" / "results" / "survival"
PAGE = ROOT / "docs" / "results" / "survival.md"
ROUND, ROUNDS = 1, 3
TARGETS = tuple(STRIKES)
MOMENTS = ("before training", "in training", "while sending")
UNDISTURBED = ("nothing", "never")
COLUMNS = (
    "fault",
    "when",
    "complete",
    "same bits",
    "submissions",
    "seconds from fault to end",
    "named",
    "what was told",
)
LONGEST_S = 1500
"""How long a run may take after the fault; one that takes longer hangs."""
SETTINGS = {"image_size": 32, "slices": 3, "base": None, "precision": "fp32", "epochs": 2}


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


def told_at_site(run: Path, *, since: float, root: Path) -> list[str]:
    """Return what the struck site's own log says of faults since then."""
    events = [event for event in read_events(RunFolder(run).events(STRUCK)) if event["time"] >= since]
    told = {"error": "{code}: {error}", "mended": "round {round} was damaged and is done again", "stopped": "{reason}"}
    said = [told[event["event"]].format(**event) for event in events if event["event"] in told]
    return [line.replace(str(root), "") for line in said]


def one_cell(target: str, moment: str, root: Path, data: Path) -> dict:
    """Run one cell and return what is to be known of it."""
    held = {
        "SURVIVAL_MOMENT": "" if moment == "never" else moment,
        "SURVIVAL_SITE": STRUCK,
        "SURVIVAL_ROUND": str(ROUND),
        "SURVIVAL_FOLDER": str(root / "signals"),
    }
    moments = ROOT / "benchmarks" / "moments"
    system = System(root, data, SITES, in_every_process=moments, environment=held, wired=[STRUCK])
    (root / "signals").mkdir()
    folder = write_job(root / "job", rounds=ROUNDS, settings=SETTINGS)
    try:
        system.start(system.server, *SITES)
        log = root / "run.log"
        system.wait_until_ready()
        began = time.monotonic()
        person = system.run(folder, "--patience", "600", log=log)
        struck_at, before, clock = 0.0, 0, time.time()
        run = system.layout.root / "sitelora" / "iat_prostate" / "run-1"
        try:
            if target != UNDISTURBED[0]:
                _wait_for(root / "signals" / "there", person)
                before = len(log.read_text().splitlines())
                struck_at, clock = time.monotonic(), time.time()
                STRIKES[target](Held(system=system, run=run, signals=root / "signals"))
            code = person.wait(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            person.kill()
            person.wait()
        ended = time.monotonic()
        lines = log.read_text().replace(str(root), "").splitlines()
        result = RunResult.if_readable(run / "server" / "result.json") or RunResult()
        return {
            "target": target,
            "moment": moment,
            "completed": code == 0 and result.completed and result.rounds_done == ROUNDS,
            "submissions": sum(line.startswith("submitted as job") for line in lines),
            "seconds": round(ended - (struck_at or began), 1),
            "bits": bits_of(run) if result.completed else "",
            "named": any(STRUCK in line for line in lines[before:] if line.startswith(("ended:", "waiting for "))),
            "told": [*lines[before:], *(["it hangs"] if code is None else [])],
            "warned": list(result.warnings),
            "site_told": told_at_site(run, since=clock, root=root),
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
        ended = [line.removeprefix("ended: ") for line in cell["told"] if line.startswith("ended:")]
        told = [*ended[:1], *(f"the record: {line}" for line in cell.get("warned", ()) if "was damaged" in line)]
        told += [f"{STRUCK}'s own log: {line}" for line in cell.get("site_told", ())[:1]]
        named = ("yes" if cell["named"] else "no") if cell["submissions"] > 1 else "nobody was lost"
        held = (cell["completed"], bits and cell["bits"] == bits)
        became = ("yes" if each else "**no**" for each in held)
        took = (str(cell["submissions"]), f"{cell['seconds']:.0f}")
        rows.append((target, moment, *became, *took, named, "; ".join(told) or "–"))
    version = next(iter(known.values()))["versions"] if known else {}
    lines = [
        "<!-- written by `python benchmarks/survival.py --page`; do not edit -->",
        "",
        "# What survives what",
        "",
        f"Faults in round {ROUND + 1} of {ROUNDS}, at exact moments, in a system of real processes with mutual TLS "
        f"on loopback: a server, {len(SITES)} sites, all needed (`min_sites` {len(SITES)}). The struck site is "
        f"{STRUCK}. `sitelora run` is left alone. Complete: all rounds are done; same bits: every site's trained state "
        "and the server's tensors are those of a run in which nothing went wrong.",
        "",
        f"- **site's process, whole site, server, all**: `kill -9`; what was killed whole is started again by its kit "
        f"after {BACK_AFTER_S:.0f} s.",
        f"- **network cut**: nothing passes between {STRUCK} and the server for {CUT_S:.0f} s, and nobody is told.",
        f"- **disk full**: {STRUCK}'s process can write no file beyond {WRITABLE} bytes (RLIMIT_FSIZE); "
        f"**memory limit**: it gets no more than it has (RLIMIT_AS). The next process of it is "
        "without the limit, as when somebody has made room.",
        f"- **newest state**: {STRUCK}, or the server, is killed whole, the file of its newest state cut to a half, "
        "and it is started again.",
        "",
        markdown(COLUMNS, rows),
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
