"""What is still to be made: further seeds fold by fold, and not held up by what no announced claim is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sitelora.comparison.evidence.experiment import NO_RATE, Entry, Experiment, Protocol
from sitelora.comparison.evidence.remaining import first_runs, further_runs, runs_left
from sitelora.comparison.evidence.results import Results

Fake = Callable[..., Path]
RATES = {0.001: 0.80, 0.002: 0.90, 0.004: 0.85}


def made(asks: Experiment, out: Path, fake: Fake, gain: float, *, seeds: int = 3) -> Results:
    """Runs of local and FedIT whose difference is as wide as its spread."""
    rng = np.random.default_rng(0)
    for cell in asks.cells:
        for seed in range(seeds):
            for row, more in (("local", 0.0), ("fedit", gain)):
                cases = list(0.7 + more + rng.normal(0, 0.05, 10))
                for rate, validation in RATES.items():
                    models = {kind: (validation, cases) for kind in ("base", "personal", "trained", "tuned")}
                    fake(asks, out, cell, row, rate, seed, models)
    return Results.read("toy", asks, out)


def test_further_seeds_follow_the_first_ones_while_a_claim_is_unsure(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    unsure = made(toy, tmp_path / "unsure", fake, 0.0)
    assert list(first_runs(unsure, rules)) == []
    assert {job.seed for job in further_runs(unsure, rules)} == {3}
    assert runs_left(unsure, rules) == len(list(further_runs(unsure, rules))) > 0
    sure = made(toy, tmp_path / "sure", fake, 0.5)
    assert runs_left(sure, rules) == 0


def test_they_come_fold_by_fold(toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path) -> None:
    """Of two folds one more seed each, and never more of one than of the other."""
    asks = replace(toy, folds=2, seeds=4, most_seeds=6)
    results = made(asks, tmp_path, fake, 0.0, seeds=4)
    assert {job.seed for job in further_runs(results, rules)} == {4, 5}


def test_a_row_that_no_announced_claim_is_about_does_not_hold_them_up(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """It may be refused on this processor for ever; one that a claim is about does hold them up."""
    probe = Entry(method="linear_probe")
    asks = replace(toy, entries={**toy.entries, "beside": probe})
    for seed in (0, 1):
        fake(asks, tmp_path, "one", "beside", NO_RATE, seed, {"personal": (0.5, [0.5] * 10)})
    results = made(asks, tmp_path, fake, 0.0)
    assert {job.entry.run for job in first_runs(results, rules)} == {probe.run}
    assert {job.seed for job in further_runs(results, rules) if job.entry.run != probe.run} == {3}
    claimed = {key: record for key, record in results.records.items() if key[:2] != ("one", "local") or key[4] != 2}
    assert list(further_runs(Results("toy", asks, claimed), rules)) == []
