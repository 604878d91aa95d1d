"""A page from made-up runs: plain lines on top, what is exploratory is marked, what is not finished is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sitelora.comparison.evidence.experiment import Entry, Experiment, Protocol
from sitelora.comparison.evidence.page import write_page
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.verdicts import OTHERS, Rows, verdicts

RATES = {0.001: 0.80, 0.002: 0.90, 0.004: 0.85}


def made(toy: Experiment, fake: Callable[..., Path], folder: Path, gain: float, *, base: float | None = None) -> Path:
    """Runs of both cells in which FedIT is better by a gain; the base scores as the row does, or all the same."""
    rng = np.random.default_rng(0)
    for cell in ("one", "two"):
        for row, more in (("local", 0.0), ("fedit", gain)):
            for seed in (0, 1, 2):
                cases = [0.45, *(0.7 + more + rng.normal(0, 0.002, 9))]
                for rate, validation in RATES.items():
                    models = {k: (validation, cases) for k in ("base", "personal", "trained", "tuned")}
                    if base is not None:
                        models["base"] = (0.1, [base] * 10)
                    fake(toy, folder, cell, row, rate, seed, models, bytes_up=2_000_000)
    return folder


@pytest.fixture(scope="module")
def out(toy: Experiment, fake: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(toy, fake, tmp_path_factory.mktemp("pages"), 0.05)


def page_of(toy: Experiment, rules: Protocol, out: Path) -> str:
    results = Results.read("toy", toy, out)
    page = write_page("toy", Rows(results, rules), verdicts([results], rules), rules, out / "evidence")
    return page.read_text(encoding="utf-8")


def test_three_plain_lines_come_first(toy: Experiment, rules: Protocol, out: Path) -> None:
    page = page_of(toy, rules, out)
    top = page.partition("## Claims")[0]
    assert top.index("Would my hospital gain?") < top.index("How sure?") < top.index("What leaves?")
    assert "10 test patients, 3 repetitions" in top
    assert "2.00 MB a site" in top
    assert "![Differences to `local`" in top
    assert "![Dice over own cases](toy_curve.png)" in top
    assert "Not finished" not in page


def test_tables_say_worst_site_failed_cases_bytes_and_choice(toy: Experiment, rules: Protocol, out: Path) -> None:
    page = page_of(toy, rules, out)
    assert "| row | Dice of its model [95 %] | worst site | cases below 0.5 |" in page
    assert "| 10.0 % |" in page  # one of ten cases
    assert "| best (fedit) |" in page
    assert "| base, as it comes | 0." in page
    assert "`one`: 8 steps a site, long enough by `local` and `fedit`." in page
    assert "| local | 0.800 | 0.900 | 0.850 | 0.002 |" in page
    exploratory = [line for line in page.splitlines() if line.startswith("| tuning helps")]
    assert len(exploratory) == 1
    assert "| exploratory |" in exploratory[0]
    assert "**" not in exploratory[0]


def test_seconds_are_those_that_were_timed_where_rates_come_from(toy: Experiment, rules: Protocol, out: Path) -> None:
    results = Results.read("toy", toy, out)
    rows = Rows(replace(results, seconds={("one", "local", 8): 41.6}), rules)
    page = write_page("toy", rows, verdicts([results], rules), rules, out / "evidence").read_text(encoding="utf-8")
    for cell in ("one", "two"):  # two has its rates and length of one
        table = page.partition(f"(`{cell}`)")[2].partition("\n## ")[0]
        lines = [line.split("|") for line in table.splitlines() if line.startswith("|")]
        column = [word.strip() for word in lines[0]].index("seconds a site")
        found = {line[1].strip(): line[column].strip() for line in lines[2:]}
        assert (found["local"], found["fedit"]) == ("42", "–")


def test_gain_by_joining_is_told_by_cell_and_by_site(toy: Experiment, rules: Protocol, out: Path) -> None:
    gain = page_of(toy, rules, out).partition("## Gain by joining")[2].partition("\n## ")[0]
    assert "Dice above `local`, at a [95 %]" in gain
    assert "| one | fedit | +0.0" in gain
    assert "| 10 test patients | 3 seeds | 2 of 2 |" in gain
    assert "|  | a | b |" in gain


def test_plots_are_drawn(toy: Experiment, rules: Protocol, out: Path) -> None:
    page_of(toy, rules, out)
    for plot in ("forest", "curve"):
        assert (out / "evidence" / f"toy_{plot}.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_is_said(toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path) -> None:
    models = {k: (0.9, [0.5, 0.6]) for k in ("base", "personal", "trained", "tuned")}
    fake(toy, tmp_path, "one", "local", 0.002, 0, models)
    page = page_of(toy, rules, tmp_path)
    assert "**Not finished:**" in page
    assert "`one`: 8 steps a site, rates or length are not settled yet." in page
    assert "Not known yet: the runs that answer it are not all made." in page


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.05, "Yes, here. the best is above local"), (-0.05, "No, here it loses. the best is above local")],
)
def test_the_first_line_answers_whether_joining_helps(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path, gain: float, words: str
) -> None:
    made(toy, fake, tmp_path, gain)
    assert f"**Would my hospital gain?** {words}" in page_of(toy, rules, tmp_path)


def test_another_network_alone_is_told_beside_the_gain(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path
) -> None:
    asks = replace(toy, entries={**toy.entries, "unet": Entry(method="local_all", bundle="unet_segmentation")})
    made(asks, fake, tmp_path, 0.05)
    for cell in asks.cells:
        for seed in (0, 1, 2):
            for rate, validation in RATES.items():
                models = {"personal": (validation, [0.45, *([0.85] * 9)])}
                fake(asks, tmp_path, cell, "unet", rate, seed, models)
    page = page_of(asks, rules, tmp_path)
    assert "- **And a small network of one's own?** `unet`, trained alone from nothing for as long, against" in page
    assert "| `unet` alone above `local` |" in page


def test_a_comparison_of_methods_is_no_answer_to_it(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path
) -> None:
    made(toy, fake, tmp_path, 0.05)
    asks = replace(toy, claims=[replace(toy.claims[2], primary=True)], counted="drawn patient")
    top = page_of(asks, replace(rules, most_seeds=3), tmp_path).partition("## Claims")[0]
    assert "This experiment does not ask that; it asks how methods differ. tuning helps" in top
    assert "20 drawn patients" in top


def test_a_side_question_does_not_stand_for_the_announced_one(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path
) -> None:
    made(toy, fake, tmp_path, 0.05)
    page = page_of(toy, replace(rules, seeds=4), tmp_path)
    assert "**Would my hospital gain?** Not known yet" in page
    assert "not all repetitions are in" in page


def test_a_claim_that_waits_for_others_says_what_was_measured_and_how_far_its_p_may_go(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path
) -> None:
    """Its p is below 0.05 alone, and above it among a thousand."""
    made(toy, fake, tmp_path, 0.05)
    noisy = np.random.default_rng(1).normal(0.02, 0.025, 10)
    for cell in ("one", "two"):
        for seed in (0, 1, 2):
            models = {k: (0.9, [0.45, *(0.7 + noisy[1:])]) for k in ("base", "personal", "trained", "tuned")}
            fake(toy, tmp_path, cell, "fedit", 0.002, seed, models)
    asks = replace(toy, claims=toy.claims[:1])
    other = replace(toy, claims=[replace(toy.claims[0], text=f"question {number}") for number in range(1000)])
    every = [Results.read("toy", asks, tmp_path), Results.read("other", other, tmp_path / "nothing")]
    found = verdicts(every, replace(rules, most_seeds=3))
    page = write_page("toy", Rows(every[0], rules), found[:1], rules, tmp_path / "evidence").read_text(encoding="utf-8")
    assert found[0].words == OTHERS
    assert "**Would my hospital gain?** Measured and not judged yet, because it is corrected together" in page
    assert f"p at most {found[0].p:.3f}; " in page
    assert f"| at most {found[0].p:.3f} |" in page


def test_it_is_said_up_to_where_joining_brings_something(toy: Experiment, rules: Protocol, out: Path) -> None:
    line = next(line for line in page_of(toy, rules, out).splitlines() if "Up to where?" in line)
    assert line.startswith("- **Up to where?** By own cases: +0.0")
    assert "told apart from none at 1 and 2 (exploratory, each by itself)." in line


def test_equality_that_holds_beside_a_difference_says_so(
    toy: Experiment, rules: Protocol, fake: Callable[..., Path], tmp_path: Path
) -> None:
    made(toy, fake, tmp_path, -0.005, base=0.5)
    page = page_of(toy, replace(rules, most_seeds=3), tmp_path)
    line = next(line for line in page.splitlines() if line.startswith("| fedit is equal"))
    assert "(90 %)" in line
    assert line.endswith("**held: within the margin, yet below the reference** |")
