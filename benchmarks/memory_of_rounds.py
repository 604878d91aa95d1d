"""Whether server and sites grow with the rounds: resident memory of the real processes of a job, after every round.

    python benchmarks/memory_of_rounds.py --out benchmarks/results/memory_of_rounds.json

Three sites in a provisioned system on loopback. The rank is large, so that an update which is kept by mistake shows:
its bytes are in the result. The growth is a straight line through the rounds after the second, by least squares.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
from real_system import SITES, System, write_job

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.federation.events import read_events
from sitelora.run_result import RunResult

ALLOWED_MB, WARM = 5.0, 2
SETTINGS = {"image_size": 32, "slices": 3, "base": None, "precision": "fp32", "epochs": 1, "method#rank": 64}


def memory(system: System, who: str) -> float:
    """Return the resident memory of a participant's job process in MB."""
    for one in system.job_processes(who):
        with contextlib.suppress(psutil.Error):
            return round(one.memory_info().rss / 1e6, 1)
    raise RuntimeError(f"{who} has no job process")


def measure(root: Path, rounds: int) -> dict:
    make_phantom(root / "data", size=TINY, sites=list(SITES))
    system = System(root, root / "data", SITES)
    who = {"server": system.server, **{site: site for site in SITES}}
    folder = write_job(root / "job", rounds=rounds, settings=SETTINGS)
    run = root / "sitelora" / "iat_prostate" / "run-1"
    seen: dict[str, list[float]] = {name: [] for name in who}
    try:
        system.start(system.server, *SITES)
        system.wait_until_ready()
        person = system.run(folder)
        while person.poll() is None:
            done = sum(event["event"] == "round_finished" for event in read_events(run / "server" / "events.jsonl"))
            if done > len(seen["server"]):
                for name, kit in who.items():
                    seen[name].append(memory(system, kit))
            time.sleep(0.1)
        result = RunResult.read(run / "server" / "result.json")
        if person.returncode or not result.completed:
            raise RuntimeError(result.error)
    finally:
        system.end()
    growth = {name: slope(values[WARM:]) for name, values in seen.items()}
    return {
        "what": "resident memory of the job's process after every round, MB",
        "rounds": rounds,
        "bytes_up_a_round": result.rounds[-1].sites[SITES[0]].bytes_up,
        "allowed_mb_a_round": ALLOWED_MB,
        "growth_mb_a_round": growth,
        "holds": all(value < ALLOWED_MB for value in growth.values()),
        "memory_mb": seen,
        "settings": SETTINGS,
        "versions": {name: metadata.version(name) for name in ("sitelora", "nvflare", "torch")},
        "processors": psutil.cpu_count(),
    }


def slope(values: list[float]) -> float:
    return round(float(np.polyfit(np.arange(len(values)), values, 1)[0]), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memory_") as place:
        found = measure(Path(place).resolve(), options.rounds)
    print(json.dumps(found["growth_mb_a_round"]), "holds" if found["holds"] else "DOES NOT HOLD")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
