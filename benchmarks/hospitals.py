"""Two real hospitals (lungs) or laboratories (cells): methods side by side at equal budgets, from JSON to a page.

    sitelora prepare lungs --source ../shared/data/chest_xray --out ../hospital_data
    python benchmarks/hospitals.py lungs --data ../hospital_data --jobs 2
    python benchmarks/hospitals.py lungs --table

One JSON file a run in benchmarks/results/hospitals/<dataset>; a run whose file is there is not run again. Equal budget:
rounds, epochs, batch and learning rate are the same, so every site's pictures are passed over equally often.
`centralised` is the method `local` on ONE folder with all sites' images, which no federation has. `--table` writes
docs/results/<dataset>.md from those files and nothing else. Images are written to neither place.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from hospitals_page import write_page
from hospitals_run import EXAMPLE_DATA, ON_ALL_IMAGES, REPOSITORY, Job, Setup, run_job

from sitelora.methods import method_names

METHODS = ("iat", "local", "fedavg_lora", "centralised")
SEEDS = (0, 1, 2)
PICTURES = {"pictures": True, "batch_size": 8, "learning_rate": 0.004}
SETUPS = {
    "lungs": Setup(
        title="Lungs in the chest X-rays of two hospitals",
        cite="Jaeger et al. 2014, NLM; free for research with citation",
        source="chest_xray",
        sites=("montgomery", "shenzhen"),
        rounds=8,
        epochs=2,
        overrides=PICTURES,
        goal_dice=0.94,
        goal_seconds=480.0,
    ),
    "cells": Setup(
        title="White blood cells of two laboratories",
        cite="Zheng et al. 2018, Micron 107:55-71; GPL-3.0; no patient is named, so every picture counts as its own",
        source="white_blood_cells",
        sites=("jiangxi_tecom", "cellavision"),
        rounds=8,
        epochs=2,
        overrides={**PICTURES, "classes": 2},
    ),
}
RESULTS = REPOSITORY / "benchmarks" / "results" / "hospitals"
PAGES = REPOSITORY / "docs" / "results"


def missing_jobs(jobs: list[Job], again: bool) -> list[Job]:
    """Return the runs without a file; a file that was made with other settings is no result of this comparison."""
    missing, stale = [], []
    for job in jobs:
        if again or not job.file.is_file():
            missing.append(job)
        elif json.loads(job.file.read_text(encoding="utf-8"))["settings"] != json.loads(json.dumps(job.settings)):
            stale.append(job.file.name)
        else:
            print(f"{job.file.name}: there already", file=sys.stderr)
    if stale:
        sys.exit(
            f"{jobs[0].file.parent}: found {', '.join(stale)} of other settings than those asked for; remove them, "
            "run with --again, or write to another --out"
        )
    return missing


def run_jobs(jobs: list[Job], at_a_time: int) -> int:
    """Run every job in a process of its own with one thread; return how many failed."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    failed = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_a_time, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run_job, job): job for job in jobs}
        for done, future in enumerate(as_completed(futures), 1):
            error = future.exception()
            failed += error is not None
            line = f"{futures[future].file.name}: FAILED: {error!r}" if error else future.result()
            print(f"[{done}/{len(jobs)}] {line}", file=sys.stderr, flush=True)
    return failed


def assignment(text: str) -> tuple[str, object]:
    """Return key and value of ``KEY=JSON``."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        found = f"found {text!r}, expected KEY=JSON, as image_size=64 or base=null"
        raise argparse.ArgumentTypeError(found) from None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=SETUPS)
    known = sorted({*method_names(), *ON_ALL_IMAGES})
    parser.add_argument("--methods", nargs="+", choices=known, default=METHODS, metavar="METHOD", help=", ".join(known))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="SEED")
    parser.add_argument("--data", type=Path, default=EXAMPLE_DATA, help="data root made with `sitelora prepare`")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--rounds", type=int, help="instead of the setup's")
    parser.add_argument("--epochs", type=int, help="instead of the setup's")
    parser.add_argument(
        "--set", nargs="+", default=[], type=assignment, metavar="KEY=JSON", help="bundle values, for all methods"
    )
    parser.add_argument("--again", action="store_true", help="run what has a file already, and replace it")
    parser.add_argument("--table", action="store_true", help="run nothing, write the page from the files")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the files are")
    parser.add_argument("--pages", type=Path, default=PAGES, help="where the page goes")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    setup = SETUPS[args.dataset]
    if args.table:
        print(write_page(args.dataset, setup, args.out / args.dataset, args.pages))
        return
    changes = dict(args.set)
    setup = replace(
        setup,
        rounds=args.rounds or setup.rounds,
        epochs=args.epochs or setup.epochs,
        overrides={**setup.overrides, **changes},
    )
    options = ["--rounds", str(setup.rounds), "--epochs", str(setup.epochs)]
    options += ["--set", *(f"{key}={json.dumps(value)}" for key, value in changes.items())] if changes else []
    jobs = [
        Job(
            dataset=args.dataset,
            method=method,
            seed=seed,
            setup=setup,
            options=tuple(options),
            data=args.data.absolute(),
            out=args.out,
            at_a_time=args.jobs,
        )
        for seed in args.seeds
        for method in args.methods
    ]
    if run_jobs(missing_jobs(jobs, args.again), args.jobs):
        sys.exit("some runs failed; the same command runs them again and leaves the others alone")


if __name__ == "__main__":
    main()
