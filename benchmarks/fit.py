"""How right `sitelora fit` is: what it says of a job at a site, beside a whole run of that site in one process.

    python benchmarks/fit.py

Writes `results/fit.json`. The site is the phantom's, whole; the probe sees a few of its cases. Times are those of the
machine as it was, and in processor seconds, which other programs lengthen less; memory is the process's peak (VmHWM).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from sitelora.comparison.run import commit
from sitelora.data.prepare import draw_site
from sitelora.federation.machine import hardware, versions
from sitelora.fitting.fit import fit
from sitelora.job_table import find_job
from sitelora.typed_json import to_json

RESULT = Path(__file__).resolve().parent / "results" / "fit.json"
ASKED: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("iat_prostate", "site-1", {}, 3),
    ("iat_prostate", "site-2", {"batch_size": 3, "image_size": 128}, 2),
    ("med_duallora_cine", "vendor-a", {"epochs": 2}, 2),
)
"""Job, site, values, rounds."""
RUN = """
import json, sys, time
from pathlib import Path
from sitelora.late_imports import import_late
import_late()
from sitelora.federation.in_process import run_in_process
from sitelora.fitting.probe import Peak
asked, rounds = json.loads(sys.argv[1]), []
asked["data"], asked["home_folder"] = Path(asked["data"]), Path(asked["home_folder"])
def note(one): rounds.append([time.time(), time.process_time()])
run_in_process(sites=(asked.pop("site"),), on_round=note, **asked)
print(json.dumps({"rounds": rounds, "peak_bytes": Peak("cpu").take().process}))
"""


def whole_run(asked: dict[str, Any]) -> dict[str, float]:
    """Return what a run of the site alone took, in a process of its own."""
    process = subprocess.Popen([sys.executable, "-c", RUN, json.dumps(asked)], stdout=subprocess.PIPE, text=True)
    began = psutil.Process(process.pid).create_time()
    out, _ = process.communicate()
    told = json.loads(out.splitlines()[-1])
    rounds = told["rounds"]
    wall, processor = ([after[n] - before[n] for before, after in pairwise(rounds)] for n in (0, 1))
    return {
        "round_s": sum(wall) / len(wall),
        "round_processor_s": sum(processor) / len(processor),
        "peak_bytes": told["peak_bytes"],
        "first_round_s": rounds[0][0] - began,
    }


def main() -> None:
    """Ask, run, and write both beside each other."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, site, values, rounds) in enumerate(ASKED):
            job = replace(find_job(name), rounds=rounds)
            root = draw_site(job.dataset, site, Path(scratch) / "data").parent.parent
            said = fit(job, site=site, data=root, values=values, memory_bytes=None, quick=True, say=print)
            asked = {
                "bundle": job.bundle,
                "dataset": job.dataset,
                "site": site,
                "rounds": rounds,
                "overrides": {**job.settings, **values},
                "data": str(root),
                "home_folder": str(Path(scratch) / f"home-{number}"),
            }
            was = whole_run(asked)
            row = {
                "job": name,
                "site": site,
                "values": values,
                "rounds": rounds,
                "cases": dict(said.counts),
                "said": {
                    "round_s": said.seconds.round,
                    "round_processor_s": said.seconds.round * said.measured.processor_share,
                    "peak_bytes": said.bytes,
                    "first_round_s": said.seconds.start + said.seconds.round,
                },
                "was": was,
                "line_missed": said.line.missed,
                "tried": to_json(said.tried),
            }
            row["off"] = {key: row["said"][key] / was[key] - 1 for key in was}
            print(json.dumps({key: row[key] for key in ("job", "said", "was", "off")}, indent=1), flush=True)
            rows.append(row)
    told = {
        "commit": commit(),
        "seed": 0,
        "machine": hardware(),
        "load": os.getloadavg(),
        "versions": versions(),
        "runs": rows,
    }
    RESULT.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
