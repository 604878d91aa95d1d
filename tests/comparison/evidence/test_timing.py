"""A row that has settled is timed once, on a quiet machine, and its page says how long a site trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sitelora.comparison.evidence import loop, timing
from sitelora.comparison.evidence.experiment import Cell, Entry, Experiment, Protocol
from sitelora.comparison.evidence.job import EvidenceJob
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.timing import time_rounds, untimed
from sitelora.comparison.run_file import ComparisonError

FAST = {"image_size": 32, "base": None, "slices": 3, "precision": "fp32"}


def watch(quiet: bool) -> Any:
    """Return what stands for the watch on other processes; tests have none of the machine to themselves."""

    class Watched:
        def told(self) -> dict[str, float | bool]:
            return {"seconds": 1.0, "others_cores": 0.0 if quiet else 0.9, "seconds_valid": quiet}

    return Watched


@pytest.fixture(scope="module")
def asks(toy: Experiment) -> Experiment:
    rows = {"fedit": Entry(method="fedavg_lora"), "centralised": Entry(method="centralised", balanced=True)}
    more = {"dataset": "prostate", "overrides": FAST, "rounds": 2, "steps": 4}
    cells = {"one": Cell(title="one")}
    return replace(toy, sites=("site-1", "site-2"), small=(), entries=rows, cells=cells, claims=(), curve=(), **more)


def job(asks: Experiment, row: str) -> EvidenceJob:
    return EvidenceJob(experiment="toy", cell="one", entry=asks.entries[row], rate=0.02, steps=4, seed=0, what=asks)


@pytest.mark.parametrize(("row", "sites"), [("fedit", 2), ("centralised", 1)])
def test_seconds_are_of_one_site_in_all_rounds(
    asks: Experiment, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, sites: int
) -> None:
    monkeypatch.setattr(timing, "Watch", watch(quiet=True))
    found = json.loads(time_rounds(job(asks, row), data=tiny, out=tmp_path).read_bytes())
    assert found["seconds_of_a_round"] > 0
    assert found["seconds_a_site"] == pytest.approx(found["seconds_of_a_round"] * 2 / sites, abs=0.1)
    assert Results.read("toy", asks, tmp_path).seconds == {("one", found["run"], 4): found["seconds_a_site"]}


def test_seconds_beside_others_are_not_written(
    asks: Experiment, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "Watch", watch(quiet=False))
    with pytest.raises(ComparisonError, match=r"other processes used 0\.90 cores meanwhile"):
        time_rounds(job(asks, "fedit"), data=tiny, out=tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def settled(toy: Experiment, fake: Callable[..., Path], out: Path) -> None:
    for row in ("local", "fedit"):
        for rate, validation in {0.001: 0.8, 0.002: 0.9, 0.004: 0.85}.items():
            for seed in (0, 1):
                models = {k: (validation, [0.5, 0.6]) for k in ("base", "personal", "trained", "tuned")}
                fake(toy, out, "one", row, rate, seed, models)


def test_settled_rows_are_timed_once_where_their_rate_comes_from(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path
) -> None:
    assert not list(untimed(Results.read("toy", toy, tmp_path), rules, tmp_path))
    settled(toy, fake, tmp_path)
    wanted = list(untimed(Results.read("toy", toy, tmp_path), rules, tmp_path))
    assert [(one.cell, one.entry.run, one.rate) for one in wanted] == [
        ("one", "local", 0.002),
        ("one", "fedavg_lora", 0.002),  # of two rows that are read from one run
    ]


def test_the_loop_times_one_row_after_the_other(
    toy: Experiment, fake: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the real processes, which know no toy: each fails, is told, and is not tried again."""
    settled(toy, fake, tmp_path)
    monkeypatch.setattr(loop, "find_experiment", lambda name: toy)
    monkeypatch.setattr(EvidenceJob, "to_json", lambda self: {"experiment": "nothing", "cell": self.entry.run})
    lines: list[str] = []
    assert loop.time_rows(["toy"], data=tmp_path, out=tmp_path, minutes=5, tell=lines.append) == 2
    assert [line.rpartition(": ")[2] for line in lines] == ["FAILED (2)", "FAILED (2)"]
