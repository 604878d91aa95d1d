"""What is missing follows from the files: rates by what is served, length, seeds; nothing of it reads a test score."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sitelora.comparison.evidence.experiment import FULL, NO_RATE, PROBE, Entry, Experiment, Protocol
from sitelora.comparison.evidence.plan import choose, missing, next_rates
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.run_file import ComparisonError

Fake = Callable[..., Path]
RATES = {0.001: 0.80, 0.002: 0.90, 0.004: 0.85}


def models(validation: float, tuned: float | None = None, test: float = 0.5) -> dict:
    cases = [test, test + 0.1, test - 0.1]
    return {
        "base": (0.1, [0.3, 0.3, 0.3]),
        "personal": (validation, cases),
        "trained": (0.99, cases),
        "tuned": (validation if tuned is None else tuned, [case + 0.05 for case in cases]),
    }


def fill(asks: Experiment, out: Path, fake: Fake, rows: dict[str, dict[float, float]], **more: object) -> None:
    for row, rates in rows.items():
        for rate, validation in rates.items():
            for seed in (0, 1):
                fake(asks, out, "one", row, rate, seed, models(validation), **more)


def jobs(asks: Experiment, out: Path, rules: Protocol, seeds: int = 3) -> list[tuple[str, str, float, int, int]]:
    found = missing(Results.read("toy", asks, out), rules, seeds)
    return [(one.cell, one.entry.run, one.rate, one.steps, one.seed) for one in found]


@pytest.mark.parametrize(
    ("scores", "wanted", "best"),
    [
        ({}, [0.002], 0.002),
        ({0.002: 0.9}, [0.001, 0.004], 0.002),
        ({0.001: 0.8, 0.002: 0.9, 0.004: 0.85}, [], 0.002),
        ({0.001: 0.8, 0.002: 0.9, 0.004: 0.95}, [0.008], 0.004),
        ({0.002: 0.9, 0.004: 0.95, 0.008: 0.96, 0.016: 0.97, 0.032: 0.98}, [], 0.032),
        ({0.001: 0.9, 0.002: 0.9, 0.0005: 0.8, 0.004: 0.1}, [], 0.002),
    ],
)
def test_a_walk_goes_on_while_the_edge_wins(
    toy: Experiment, rules: Protocol, scores: dict[float, float], wanted: list[float], best: float
) -> None:
    assert next_rates(scores, rules, toy, 1) == (wanted, best)


def test_where_no_rate_makes_a_difference_the_middle_stays(toy: Experiment, rules: Protocol) -> None:
    same = {0.002: 0.8}
    wanted, _ = next_rates(same, rules, toy, 1)
    assert sorted(wanted) == [0.001, 0.004]
    assert next_rates({**same, 0.001: 0.8, 0.004: 0.8}, rules, toy, 1) == ([], 0.002)


def test_a_full_grid_is_extended_at_its_edge(toy: Experiment, rules: Protocol) -> None:
    full = replace(toy, search=FULL)
    assert next_rates({0.002: 0.9}, rules, full, 1)[0] == [0.0005, 0.001, 0.004, 0.008]
    grid = dict(zip(rules.rates, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
    assert next_rates(grid, rules, full, 1)[0] == [0.016]
    assert next_rates({rate: -score for rate, score in grid.items()}, rules, full, -1)[0] == [0.016]


def test_a_probe_has_one_run_a_seed_and_no_rate(toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path) -> None:
    asks = replace(toy, entries={**toy.entries, "probe": Entry(method=PROBE)})
    fill(asks, tmp_path, fake, {"local": RATES, "fedit": RATES})
    assert ("one", PROBE, NO_RATE, 8, 1) in jobs(asks, tmp_path, rules)
    fill(asks, tmp_path, fake, {"probe": {NO_RATE: 0.7}})
    assert choose(Results.read("toy", asks, tmp_path), "one", rules).rates["probe"] == NO_RATE
    assert {job[4] for job in jobs(asks, tmp_path, rules) if job[:2] == ("one", PROBE)} <= {2}


def test_rates_come_first_and_rows_of_one_run_share_it(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    first = jobs(toy, tmp_path, rules)
    assert first == [("one", run, 0.002, 8, seed) for run in ("local", "fedavg_lora") for seed in (0, 1)]
    fill(toy, tmp_path, fake, {"local": RATES, "fedit": {0.002: 0.9}})
    assert jobs(toy, tmp_path, rules) == [("one", "fedavg_lora", rate, 8, s) for rate in (0.001, 0.004) for s in (0, 1)]


def test_the_rate_is_that_of_the_served_model_and_of_the_site_asked_about(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """`trained` says 0.99 everywhere and has no voice; the tuned row chooses by its own model."""
    fill(toy, tmp_path, fake, {"local": RATES})
    for rate, validation in RATES.items():
        for seed in (0, 1):
            fake(toy, tmp_path, "one", "fedit", rate, seed, models(validation, tuned=1 - validation))
    choice = choose(Results.read("toy", toy, tmp_path), "one", rules)
    assert (choice.rates["local"], choice.rates["fedit"]) == (0.002, 0.002)
    assert choice.wanted == (("fedit_tuned", 0.0005),)


def test_test_scores_have_no_part_in_any_choice(toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path) -> None:
    found = []
    for test in (0.2, 0.8):
        out = tmp_path / str(test)
        for row in ("local", "fedit"):
            for rate, validation in RATES.items():
                for seed in (0, 1):
                    better = test if rate == 0.004 else 0.5
                    fake(toy, out, "one", row, rate, seed, models(validation, test=better))
        found.append(choose(Results.read("toy", toy, out), "one", rules))
    assert found[0] == found[1]
    assert found[0].done


def test_seeds_and_dependent_cells_follow_once_rates_are_chosen(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    fill(toy, tmp_path, fake, {"local": RATES, "fedit": RATES})
    wanted = {("two", run, 0.002, 8, seed) for run in ("local", "fedavg_lora") for seed in (0, 1, 2)}
    wanted |= {("one", run, 0.002, 8, 2) for run in ("local", "fedavg_lora")}
    assert set(jobs(toy, tmp_path, rules)) == wanted
    assert len(jobs(toy, tmp_path, rules)) == len(wanted)


def test_what_still_learns_gets_twice_the_steps(toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path) -> None:
    """0.89 at three quarters and 0.9 at the end: the whole cell again at 16 steps, the deciding rows first."""
    fill(toy, tmp_path, fake, {"local": RATES, "fedit": RATES}, course=[0.5, 0.7, 0.89, 0.9])
    choice = choose(Results.read("toy", toy, tmp_path), "one", rules)
    assert (choice.steps, choice.done) == (16, False)
    assert {job[3] for job in jobs(toy, tmp_path, rules)} == {16}
    fill(toy, tmp_path, fake, {"local": RATES, "fedit": RATES}, course=[0.5, 0.7, 0.8985, 0.9], steps=16)
    choice = choose(Results.read("toy", toy, tmp_path), "one", rules)
    assert (choice.steps, choice.done, choice.converged) == (16, True, True)


def test_where_the_question_is_about_newcomers_the_federation_says_whether_it_still_learns(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """Newcomers have no rounds: 0.8 at three quarters and 0.9 at the end is of the sites that took part."""
    late = replace(toy, newcomers=("c",))
    fill(toy, tmp_path, fake, {"local": RATES, "fedit": RATES}, course=[0.5, 0.7, 0.8, 0.9])
    for file in tmp_path.rglob("*.json"):
        record = json.loads(file.read_text())
        record["asked"]["newcomers"] = ["c"]
        record["sites"] = {"c": record["sites"]["a"]}
        file.write_text(json.dumps(record))
    results = Results.read("toy", late, tmp_path)
    assert results.gain("one", late.entries["local"], 8, 0.002, [0]) == pytest.approx(0.1)


def test_it_does_not_double_for_ever(toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path) -> None:
    for steps in (8, 16, 32):
        fill(toy, tmp_path, fake, {"local": RATES, "fedit": RATES}, course=[0.5, 0.7, 0.8, 0.9], steps=steps)
    choice = choose(Results.read("toy", toy, tmp_path), "one", rules)
    assert (choice.steps, choice.done, choice.converged) == (32, True, False)


def test_a_run_of_another_protocol_is_no_run_of_this_one(toy: Experiment, fake: Fake, tmp_path: Path) -> None:
    fake(toy, tmp_path, "one", "local", 0.002, 0, models(0.9))
    with pytest.raises(ComparisonError, match=r"\.json: made with another protocol \(rounds\)"):
        Results.read("toy", replace(toy, rounds=2), tmp_path)
