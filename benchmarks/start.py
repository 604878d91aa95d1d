"""What a process costs before its first task: seconds and processor seconds of its imports, beside another checkout's.

    python benchmarks/start.py --before ../another_checkout --out benchmarks/results/start.json
    python benchmarks/start.py --out FILE                       this checkout alone

Every start is a fresh process; the two checkouts take turns, and so do the cases, so that
a machine's other work meets them alike. Wall seconds are those of a loaded machine where it is loaded: the load average
stands beside them, and processor seconds (user and system) are what can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sitelora.comparison.run import commit
from sitelora.federation.machine import hardware, versions

SITE = "import sitelora.flare.executor, sitelora.federation.site, sitelora.tasks.segmentation"
NETWORK = """
from sitelora.settings import read_settings
read_settings("iat_segmentation", {}).parser().get_parsed_content("network_def")
"""
TRAINER = """
import torch
torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
"""
CASES = {
    "torch alone, for comparison": ["-c", "import torch"],
    "NVFlare's own process, before our executor": ["-c", "import nvflare.private.fed.app.simulator.simulator_worker"],
    "a site before its first task": ["-c", SITE],
    "the same, and its first network": ["-c", SITE + NETWORK],
    "the same, and an optimiser (torch imports dynamo for it)": ["-c", SITE + NETWORK + TRAINER],
    "sitelora --help": ["-m", "sitelora.cli", "--help"],
    "sitelora status": ["-m", "sitelora.cli", "status"],
}


def cost(arguments: list[str], checkout: Path) -> tuple[float, float]:
    """Return wall and processor seconds of one process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "custom"), "OMP_NUM_THREADS": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, *arguments], cwd=checkout, env=environment, check=True, capture_output=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    here = Path(__file__).resolve().parent.parent
    checkouts = {**({"before": asked.before.resolve()} if asked.before else {}), "after": here}
    taken: dict[str, dict[str, list[tuple[float, float]]]] = {case: {name: [] for name in checkouts} for case in CASES}
    for number in range(asked.repeats + 1):
        for case, arguments in CASES.items():
            for name, checkout in checkouts.items():
                found = cost(arguments, checkout)
                if number:  # the first of all fills the disk cache
                    taken[case][name].append(found)
    result: dict[str, Any] = {
        "commits": {name: commit(checkout) for name, checkout in checkouts.items()},
        "hardware": hardware(),
        "versions": versions(),
        "load_average": os.getloadavg()[0],
        "repeats": asked.repeats,
        "cases": {case: summary(both) for case, both in taken.items()},
    }
    asked.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for case, both in result["cases"].items():
        print(case, {name: one["cpu_s"] for name, one in both.items() if name != "cpu_ratio"})


def summary(both: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Return medians of each checkout, and the ratio of their processor seconds where there are two."""
    medians = {
        name: {
            "wall_s": round(statistics.median(wall for wall, _ in taken), 2),
            "cpu_s": round(statistics.median(cpu for _, cpu in taken), 2),
            "cpu_s_each": [round(cpu, 2) for _, cpu in taken],
        }
        for name, taken in both.items()
    }
    if "before" not in medians:
        return medians
    return {**medians, "cpu_ratio": round(medians["after"]["cpu_s"] / medians["before"]["cpu_s"], 2)}


if __name__ == "__main__":
    main()
