"""Many sites in one process: whether a federation of 24 or 100 ends complete, and what a site more costs.

    python benchmarks/many_sites.py --out benchmarks/results/many_sites.json

The product's own in-process federation (`run_in_process`, iat_segmentation, the prostate phantom's six sites under as
many names as are asked for) on a tiny network, each number of sites in a process of its own. A third of the sites is
away in the second round; the last round has all of them. Seconds and resident memory are of the whole process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from sitelora.comparison.run import commit
from sitelora.data.phantom.make import SITES, TINY, make_phantom
from sitelora.federation.in_process import run_in_process
from sitelora.federation.machine import hardware, versions
from sitelora.run_result import OK

ROUNDS, AWAY_IN = 3, 1
SETTINGS = {
    "image_size": 32,
    "slices": 3,
    "base": None,
    "precision": "fp32",
    "epochs": 1,
    "torch_threads": 1,
}


def names(count: int) -> tuple[str, ...]:
    return tuple(f"site-{number:03d}" for number in range(1, count + 1))


def make_sites(data: Path, count: int) -> None:
    """Write as many site folders: copies of the phantom's six under further names."""
    drawn = make_phantom(data / "drawn", size=TINY)
    for number, name in enumerate(names(count)):
        folder = shutil.copytree(drawn / SITES[number % len(SITES)], data / "prostate" / name)
        told = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        (folder / "dataset.json").write_text(json.dumps({**told, "name": name}), encoding="utf-8")


def measured(count: int) -> dict[str, Any]:
    """Run it and return what is to be known of it."""
    with tempfile.TemporaryDirectory(prefix="many-sites-") as place:
        data = Path(place)
        make_sites(data, count)
        process, began = psutil.Process(), time.monotonic()
        before = process.memory_info().rss
        result = run_in_process(
            bundle="iat_segmentation",
            dataset="prostate",
            sites=names(count),
            rounds=ROUNDS,
            federation="many_sites",
            overrides=SETTINGS,
            data=data,
            home_folder=data / "home",
            uid="run",
            attends=lambda site, number: number != AWAY_IN or int(site[-3:]) % 3 != 0,
        )
        there = [sum(entry.status == OK for entry in each.sites.values()) for each in result.rounds]
        return {
            "sites": count,
            "completed": result.completed,
            "rounds_done": result.rounds_done,
            "updates_by_round": there,
            "evaluated": len(result.evaluation),
            "fingerprint": result.fingerprint,
            "seconds": round(time.monotonic() - began, 1),
            "seconds_by_round": [each.seconds for each in result.rounds],
            "grown_mb": round((process.memory_info().rss - before) / 1e6, 1),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[24, 100])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return 0
    found = []
    for count in options.sites:
        command = [sys.executable, __file__, "--one", str(count)]
        answered = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found.append(json.loads(answered.splitlines()[-1]))
    result = {
        "what": "a federation of many sites in one process, a third of them away in the second round",
        "command": "python benchmarks/many_sites.py --out benchmarks/results/many_sites.json",
        "commit": commit(),
        "settings": SETTINGS,
        "hardware": hardware(),
        "versions": versions(),
        "rounds": ROUNDS,
        "runs": found,
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0 if all(one["completed"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
