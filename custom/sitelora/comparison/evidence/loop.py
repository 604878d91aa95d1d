"""Runs for as many minutes as there are, each in its own process; what is missing is asked anew after every one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sitelora.comparison.evidence.experiment import find_experiment, protocol
from sitelora.comparison.evidence.job import EvidenceJob
from sitelora.comparison.evidence.remaining import first_runs, further_runs
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.timing import untimed

Run = TypeVar("Run")
REFUSED = 3
"""Exit code of a run that its block refuses."""


def waiting(names: Sequence[str], out: Path) -> Iterator[EvidenceJob]:
    """Yield the runs that are missing: of every experiment in its turn, then further seeds where a claim is unsure."""
    rules = protocol()
    found = [Results.read(name, find_experiment(name), out) for name in names]
    for results in found:
        yield from first_runs(results, rules)
    for results in found:
        yield from further_runs(results, rules)


def go_on(
    names: Sequence[str],
    *,
    data: Path,
    out: Path,
    minutes: float,
    at_a_time: int,
    tell: Callable[[str], None],
) -> int:
    """Make missing runs until the minutes are over or none is missing; return how many failed.

    A run that has begun is let finish. One that its block refuses is told and passed over, here and now.

    Args:
        names: of experiments, the most needed first. data: root of the site folders. out: folder of all results.
    """
    return keep_running(
        lambda: waiting(names, out),
        lambda one: _start(one, data, out, at_a_time),
        minutes=minutes,
        at_a_time=at_a_time,
        tell=tell,
    )


def time_rows(names: Sequence[str], *, data: Path, out: Path, minutes: float, tell: Callable[[str], None]) -> int:
    """Time every settled row whose seconds are not known, one at a time, and return of how many it failed.

    Args:
        names: of experiments, in this order. data: root of the site folders. out: folder of all results.
    """

    def missing() -> Iterator[EvidenceJob]:
        for name in names:
            yield from untimed(Results.read(name, find_experiment(name), out), protocol(), out)

    def start(one: EvidenceJob) -> subprocess.Popen[bytes]:
        return _start(one, data, out, 1, "--seconds")

    return keep_running(missing, start, minutes=minutes, at_a_time=1, tell=tell)


def keep_running(
    missing: Callable[[], Iterable[Run]],
    start: Callable[[Run], subprocess.Popen[bytes]],
    *,
    minutes: float,
    at_a_time: int,
    tell: Callable[[str], None],
) -> int:
    """Start what is missing, asked anew whenever a process has ended, and return how many failed.

    Args:
        missing: gives what is missing now, the most needed first; told apart by its text, and tried once.
        start: starts its process; one that ends with REFUSED has not failed.
        minutes: after which none is started. at_a_time: how many run beside each other. tell: called with a line.
    """
    began, failed, tried = time.monotonic(), 0, set[str]()
    going: dict[str, subprocess.Popen[bytes]] = {}
    ended = True
    try:
        while True:
            for key, process in list(going.items()):
                code = process.poll()
                if code is not None:
                    del going[key]
                    ended = True
                    failed += code not in (0, REFUSED)
                    word = {0: "done", REFUSED: "refused"}.get(code, f"FAILED ({code})")
                    tell(f"[{(time.monotonic() - began) / 60:5.1f} min] {key}: {word}")
            late = time.monotonic() - began > minutes * 60
            todo = (one for one in missing() if str(one) not in tried) if ended and not late else iter(())
            ended = False  # nothing else is missing until another run is done
            for one in list(islice(todo, at_a_time - len(going))):
                tried.add(str(one))
                going[str(one)] = start(one)
            if not going:
                return failed
            time.sleep(1.0)
    finally:
        for process in going.values():  # only where this was interrupted: no file is half written
            process.terminate()


def _start(one: EvidenceJob, data: Path, out: Path, at_a_time: int, *more: str) -> subprocess.Popen[bytes]:
    words = ["--one", json.dumps(one.to_json()), "--data", str(data), "--out", str(out), "--jobs", str(at_a_time)]
    return one_thread(["-m", "sitelora.cli", "evidence", *words, *more])


def one_thread(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start this Python on these words with one thread, so that runs beside each other do not fight over the cores."""
    return subprocess.Popen(
        [sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    )
