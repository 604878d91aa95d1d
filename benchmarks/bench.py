"""Every measurement of speed and size beside its peers, in one go, kept by commit: `make bench`, `make bench-full`.

    python benchmarks/bench.py                   below 20 minutes on two cores
    python benchmarks/bench.py --full            with 512 and 1024 px, 100 sites, 20 rounds and NVFlare's simulator
    python benchmarks/bench.py --only start      one part of it
    python benchmarks/bench.py --page            run nothing; write docs/results/speed.md from what is there

Every part is a benchmark of its own with its own `--help`; here each runs in a process of its own, one after the other,
and what it wrote lies under `results/bench/COMMIT_PROCESSOR/`, beside a `run.json` with processor, versions, the load
before each part and the figures that the page shows. A part that is there for this commit and processor is not run
again, so that a stopped command goes on. Figures of different processors stand in different tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_page import page
from bench_parts import PARTS, Part

from sitelora.comparison.run import commit
from sitelora.federation.machine import hardware, versions
from sitelora.report.format_values import count_text

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "bench"
PAGE = HERE.parent / "docs" / "results" / "speed.md"


def run_part(part: Part, out: Path, peers: Path | None) -> dict[str, Any]:
    """Run one benchmark and return how it went; its own output goes to a log beside its file.

    Only a part that has contenders of other packages runs in ``peers``, the environment which has them: MONAI imports
    transformers wherever it is installed, and every process would start four times as slowly.
    """
    log, load, started = out.with_suffix(".log"), os.getloadavg()[0], time.monotonic()
    python = str(peers) if peers and part.peers else sys.executable
    command = [python, str(HERE / part.script), *part.arguments, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent / "custom")}
    with log.open("w", encoding="utf-8") as written:
        code = subprocess.run(
            command, env=environment, stdout=written, stderr=subprocess.STDOUT, check=False
        ).returncode
    said: dict[str, Any] = {"minutes": round((time.monotonic() - started) / 60, 1), "load_before": round(load, 1)}
    if out.is_file():
        log.unlink()
        return said
    return {**said, "failed": f"exit {code}, see {log.name}: {_last_line(log)}"}


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def gather(folder: Path, went: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of one run: how the parts went, and the figures of those that wrote a file."""
    figures = []
    for name, part in PARTS.items():
        if (folder / f"{name}.json").is_file():
            found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            figures += [{"part": name, **figure.to_json()} for figure in part.figures(found)]
    return {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": "make bench",
        "hardware": hardware(),
        "versions": versions(),
        "parts": went,
        "figures": figures,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="with what takes long")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--peers", type=Path, help="python of an environment with transformers and peft")
    parser.add_argument("--page", action="store_true", help="write the page and nothing else")
    args = parser.parse_args()
    failed = False
    if not args.page:
        machine = hardware()
        words = f"{machine['processor']} {machine['instructions']}".lower().split()
        folder = RESULTS / f"{commit()}_{'-'.join(words)}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "run.json"
        went = json.loads(file.read_text(encoding="utf-8"))["parts"] if file.is_file() else {}
        asked = [n for n in PARTS if (n in args.only if args.only else args.full or not PARTS[n].long)]
        for number, name in enumerate(asked, 1):
            print(f"[{number}/{len(asked)}] {name}: {PARTS[name].what}", flush=True)
            if not (folder / f"{name}.json").is_file():
                went[name] = run_part(PARTS[name], folder / f"{name}.json", args.peers)
                file.write_text(json.dumps(gather(folder, went), indent=1) + "\n", encoding="utf-8")
                print("      " + went[name].get("failed", f"{went[name]['minutes']} min"), flush=True)
            failed |= "failed" in went.get(name, {})
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*/run.json"))]
    PAGE.write_text(page(runs), encoding="utf-8")
    print(f"{PAGE.relative_to(HERE.parent)}: {count_text(len(runs), 'run')}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
