"""All runs of a comparison: a learning rate chosen for every method on one seed, then the other seeds; resumable."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from sitelora.comparison.run import Job, Tell, run_job
from sitelora.comparison.run_file import ComparisonError, primary_metric, read_run
from sitelora.data.site_folder import first_few, without_data

MakeJob = Callable[[str, float, int], Job]
"""Gives the run of a method, a learning rate and a seed."""
MUST_AGREE = (
    "rounds",
    "epochs",
    "steps_per_epoch",
    "batch_size",
    "schedule",
    "weight_decay",
    "max_gradient_norm",
    "precision",
    "torch_threads",
)


def compare(
    make: MakeJob, *, methods: Sequence[str], rates: Sequence[float], seeds: Sequence[int], again: bool, tell: Tell
) -> int:
    """Make all runs that have no file yet and return how many failed.

    With more than one learning rate, every method runs with each of them on the first seed, and the rate of the best
    validation score at the end is used for its other seeds; test cases have no part in it.

    Args:
        make: a run's job. methods, rates, seeds: what to run.
        again: replace files that are there. tell: called with one line of progress.
    """
    first = seeds[0]
    failed = run_jobs([make(method, rate, first) for method in methods for rate in rates], again=again, tell=tell)
    if failed:
        return failed
    rest = []
    for method in methods:
        runs = [read_run(make(method, rate, first).file) for rate in rates]
        rest += [make(method, best_rate(runs), seed) for seed in seeds[1:]]
    return run_jobs(rest, again=again, tell=tell)


def best_rate(runs: Sequence[Mapping[str, Any]]) -> float:
    """Return the learning rate of the run with the best validation score at the end; of equal ones the smallest."""

    def order(run: Mapping[str, Any]) -> tuple[float, float]:
        return -primary_metric(run).goodness(last_validation(run)), run["learning_rate"]

    return float(min(runs, key=order)["learning_rate"])


def last_validation(run: Mapping[str, Any]) -> float:
    """Return the mean over sites of the validation score at the end, of those that have validation cases."""
    last = [series[-1] for series in run["validation_score"].values() if series[-1] is not None]
    return statistics.fmean(last) if last else 0.0


def run_jobs(jobs: Sequence[Job], *, again: bool, tell: Tell) -> int:
    """Run every job without a file in a process of its own with one thread; return how many failed.

    Raises:
        ComparisonError: a site has no data, or a file is there that was made with other settings or another budget.
        SettingsError: a value that may not be set, or not to this.
    """
    for job in jobs:
        _ = job.judged  # a value that may not be set stops all of them before the first begins
    waiting = _missing(jobs, again=again, tell=tell)
    if not waiting:
        return 0
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    failed, started = 0, time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(waiting[0].at_a_time, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(_in_process, job): job for job in waiting}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                error = future.exception()
                failed += error is not None
                left = (time.monotonic() - started) / done * (len(waiting) - done)
                line = f"{futures[future]}: FAILED: {error}" if error else future.result()
                tell(f"[{done}/{len(waiting)}] {line}" + (f"; about {left / 60:.0f} min left" if left else ""))
        except KeyboardInterrupt:
            for process in list(pool._processes.values()):  # no public way to end a run that is under way
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def common_budget(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same in all runs of a comparison, from one run's file; the keys are ``Job.budget``'s."""
    return {key: run["budget"].get(key) for key in MUST_AGREE} | {"image_size": run["image_size"]}


def _in_process(job: Job) -> str:
    """Run one job in a fresh process, which tells its rounds on standard error."""

    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    return run_job(job, tell)


def _missing(jobs: Sequence[Job], *, again: bool, tell: Tell) -> list[Job]:
    """Return the runs without a file; a file of other settings is no result of this comparison."""
    missing, stale = [], []
    for job in jobs:
        if again or not job.file.is_file():
            missing.append(job)
        elif read_run(job.file)["settings"] != job.settings:
            stale.append(job.file.name)
        else:
            tell(f"{job}: there already")
    if stale:
        raise ComparisonError(
            f"{jobs[0].file.parent}: found {', '.join(stale)} of other settings than those asked for; remove them, "
            "run with --again, or write to another --out"
        )
    if missing:
        _require_data(missing[0])
        _require_one_budget(missing, again=again)
    return missing


def _require_data(job: Job) -> None:
    """Refuse to begin without the data of a site, which all runs need."""
    if missing := without_data(job.setup.dataset, (*job.setup.sites, *job.setup.left_out), job.data):
        raise ComparisonError("\n  ".join(["nothing was started:", *missing]))


def _require_one_budget(jobs: Sequence[Job], *, again: bool) -> None:
    """Refuse to add runs to others that no page could compare them with, before anything is trained."""
    folder, wanted = jobs[0].file.parent, jobs[0].budget
    replaced = {job.method for job in jobs} if again else set()
    differing: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.json")):
        run = read_run(file)
        found = common_budget(run)
        words = [f"{key} {found[key]}, here {value}" for key, value in wanted.items() if found[key] != value]
        if words and run["method"] not in replaced:
            differing.setdefault("; ".join(words), []).append(file.name)
    if differing:
        told = "\n".join(f"  {words}: {first_few(names, most=3)}" for words, names in differing.items())
        raise ComparisonError(
            f"{folder}: found runs of another budget, which these could not be compared with; nothing was trained. "
            f"Write to another --out, or give them the same, for example with --set precision=...:\n{told}"
        )
