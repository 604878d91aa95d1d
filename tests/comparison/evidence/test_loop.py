"""The loop: nothing is begun when time is over, a refusal is passed over, a failure counts, nothing is made twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitelora.comparison.evidence import loop
from sitelora.comparison.evidence.experiment import Experiment
from sitelora.comparison.evidence.job import EvidenceJob


@pytest.fixture
def begun(
    toy: Experiment, fake: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Runs are made-up files; `codes` says by row how a run's process ends."""
    told: dict[str, Any] = {"jobs": [], "codes": {}, "lines": []}

    def start(one: EvidenceJob, data: Path, out: Path, at_a_time: int) -> subprocess.Popen[bytes]:
        told["jobs"].append(str(one))
        row = "local" if one.entry.method == "local" else "fedit"
        code = told["codes"].get(row, 0)
        if not code:
            validation = 0.9 - abs(one.rate - 0.002)
            models = {k: (validation, [0.5, 0.6, 0.7]) for k in ("base", "personal", "trained", "tuned")}
            fake(toy, out, one.cell, row, one.rate, one.seed, models)
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])

    monkeypatch.setattr(loop, "_start", start)
    monkeypatch.setattr(loop, "find_experiment", lambda name: toy)
    return told


def go(begun: dict[str, Any], out: Path, minutes: float) -> int:
    return loop.go_on(["toy"], data=out, out=out, minutes=minutes, at_a_time=8, tell=begun["lines"].append)


def test_it_goes_on_to_the_end_and_then_has_nothing_to_do(begun: dict[str, Any], tmp_path: Path) -> None:
    assert go(begun, tmp_path, 5) == 0
    assert len(begun["jobs"]) == len(set(begun["jobs"]))
    # two methods: three rates on two seeds, then the third seed, then three seeds of the other cell
    assert len(begun["jobs"]) == 2 * (3 * 2 + 1 + 3)
    begun["jobs"].clear()
    assert go(begun, tmp_path, 5) == 0
    assert begun["jobs"] == []


def test_when_time_is_over_nothing_is_begun(begun: dict[str, Any], tmp_path: Path) -> None:
    assert go(begun, tmp_path, 0) == 0
    assert begun["jobs"] == []


def test_a_refusal_is_told_and_passed_over_and_a_failure_counts(begun: dict[str, Any], tmp_path: Path) -> None:
    begun["codes"] = {"local": loop.REFUSED, "fedit": 1}
    assert go(begun, tmp_path, 5) == 2
    assert len(begun["jobs"]) == 4
    words = [line.rpartition(": ")[2] for line in begun["lines"]]
    assert sorted(words) == ["FAILED (1)", "FAILED (1)", "refused", "refused"]
