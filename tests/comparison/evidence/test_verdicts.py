"""Claims on made-up runs: what is planted is found, chance is not, equality can fail, the family is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sitelora.comparison.evidence.experiment import Claim, Entry, Experiment, Protocol
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.verdicts import (
    APART,
    HELD,
    MORE,
    NO_BASE,
    OPEN,
    OTHERS,
    PART,
    REVERSED,
    Rows,
    unsettled,
    verdicts,
)

Fake = Callable[..., Path]
RATES = {0.001: 0.80, 0.002: 0.90, 0.004: 0.85}


def planted(asks: Experiment, out: Path, fake: Fake, gain: float, *, spread: float = 0.004, bytes_up: int = 10) -> None:
    """FedIT is better than local by a gain that differs a little by patient and seed."""
    rng = np.random.default_rng(1)
    easy = rng.uniform(0.6, 0.9, 12)
    wobble = rng.normal(0, spread, 12)
    for cell in ("one", "two"):
        for seed in (0, 1, 2):
            noise = rng.normal(0, spread / 4)
            for row, more in (("local", np.zeros(12)), ("fedit", gain + wobble + noise)):
                for rate, validation in RATES.items():
                    cases = [round(float(value), 5) for value in easy + more]
                    models = {
                        "base": (0.2, [0.4] * 12),
                        "personal": (validation, cases),
                        "trained": (validation, cases),
                        "tuned": (validation - 0.1, cases),
                    }
                    sent = 100 if row == "local" else bytes_up
                    fake(asks, out, cell, row, rate, seed, models, bytes_up=sent)


def found_in(asks: Experiment, out: Path, rules: Protocol) -> dict[str, object]:
    return {one.claim.text: one for one in verdicts([Results.read("toy", asks, out)], rules)}


def test_a_planted_gain_is_found_and_its_reverse_too(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    for gain, words in ((0.03, HELD), (-0.03, REVERSED), (0.0002, APART)):
        out = tmp_path / str(gain)
        planted(toy, out, fake, gain)
        verdict = found_in(toy, out, rules)["the best is above local"]
        assert verdict.words == words  # type: ignore[attr-defined]
        assert verdict.found.mean == pytest.approx(gain, abs=0.005)  # type: ignore[attr-defined]


def test_a_difference_is_over_its_cells_and_sites_paired_by_case(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    planted(toy, tmp_path, fake, 0.03)
    rows = Rows(Results.read("toy", toy, tmp_path), rules)
    found = rows.difference({"one/fedit": 1, "one/local": -1}, sites=["a"])
    assert found is not None
    records = [rows.records("one", row) for row in ("fedit", "local")]
    by_hand = np.mean(
        [
            np.subtract(*(by_seed[seed]["sites"]["a"]["models"]["personal"]["cases"] for by_seed in records))
            for seed in (0, 1, 2)
        ],
        axis=0,
    )
    assert found.mean == pytest.approx(by_hand.mean())
    assert (found.seeds, found.patients, set(found.sites)) == (3, 12, {"a"})
    assert found.error is not None
    assert found.error > np.std(by_hand, ddof=1) / np.sqrt(12)  # and seeds add to it


def test_the_best_row_is_the_one_that_validation_prefers(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    planted(toy, tmp_path, fake, 0.03)
    assert Rows(Results.read("toy", toy, tmp_path), rules).resolved("two", "best") == "fedit"


def test_the_best_row_is_of_the_cell_itself_where_rates_are_of_another(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    planted(toy, tmp_path, fake, 0.03)
    for seed in (0, 1, 2):
        models = {kind: (value, [0.5] * 12) for kind, value in {"personal": 0.7, "trained": 0.7, "tuned": 0.9}.items()}
        fake(toy, tmp_path, "two", "fedit", 0.002, seed, models)
    rows = Rows(Results.read("toy", toy, tmp_path), rules)
    assert {cell: rows.resolved(cell, "best") for cell in toy.cells} == {"one": "fedit", "two": "fedit_tuned"}


def test_equality_holds_fails_and_asks_for_bytes(toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path) -> None:
    text = "fedit is equal to local for a tenth of the bytes"
    cheap = replace(toy, claims=[replace(c, bytes_at_most=0.1) if c.text == text else c for c in toy.claims])
    for place, gain, bytes_up, asks, words in (
        ("equal", 0.0, 10, cheap, HELD),
        ("apart", 0.03, 10, cheap, "did not hold: not shown to be equal"),
        ("dear", 0.0, 50, cheap, "did not hold: too many bytes"),
    ):
        planted(toy, tmp_path / place, fake, gain, bytes_up=bytes_up)
        verdict = found_in(asks, tmp_path / place, rules)[text]
        assert verdict.words == words  # type: ignore[attr-defined]
        assert verdict.margin == pytest.approx(0.01)  # type: ignore[attr-defined]


def test_where_the_reference_gains_nothing_there_is_no_margin(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    cases = [0.5, 0.6, 0.7]
    same = {kind: (0.9, cases) for kind in ("base", "personal", "trained", "tuned")}
    for cell in ("one", "two"):
        for row in ("local", "fedit"):
            for rate in RATES:
                for seed in (0, 1, 2):
                    models = {**same, "personal": (RATES[rate], cases), "tuned": (RATES[rate], cases)}
                    fake(toy, tmp_path, cell, row, rate, seed, models)
    verdict = found_in(toy, tmp_path, rules)["fedit is equal to local for a tenth of the bytes"]
    assert verdict.words.startswith("no margin")  # type: ignore[attr-defined]
    assert verdict.p is None  # type: ignore[attr-defined]


def test_the_family_is_corrected_as_a_whole_whatever_has_run(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """Two primary claims: the smaller p doubles even where the other has no runs; exploratory p stay as they are."""
    rules = replace(rules, most_seeds=rules.seeds)
    planted(toy, tmp_path, fake, 0.006, spread=0.01)
    rows = Rows(Results.read("toy", toy, tmp_path), rules)
    alone = [replace(claim, primary=claim.primary and "best" in claim.text) for claim in toy.claims]
    one = found_in(replace(toy, claims=alone), tmp_path, rules)["the best is above local"]
    empty = Results("other", replace(toy, claims=[c for c in toy.claims if c.primary]), {})
    results = Results("toy", replace(toy, claims=alone), rows.results.records)
    two = next(v for v in verdicts([results, empty], rules) if v.found is not None)
    assert one.p < 0.3  # type: ignore[attr-defined]
    assert two.p == pytest.approx(min(1.0, 3 * one.p))  # type: ignore[attr-defined]
    others = [v for v in verdicts([results, empty], rules) if v.experiment == "other"]
    assert {v.words for v in others} == {OPEN}


def test_further_seeds_are_for_differences_that_are_unsure_and_not_small(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    for place, gain, spread, unsure in (
        ("sure", 0.05, 0.004, False),
        ("small", 0.0, 0.001, False),
        ("no", 0, 0.05, True),
    ):
        planted(toy, tmp_path / place, fake, gain, spread=spread)
        assert unsettled(Results.read("toy", toy, tmp_path / place), rules) is unsure


def test_a_claim_waits_for_its_seeds_and_for_those_that_are_asked_for(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """Too few seeds, or a difference that is unsure while more may be made: no verdict and no p."""
    planted(toy, tmp_path / "unsure", fake, 0.0, spread=0.05)
    few = replace(rules, seeds=4)
    for asks, words in ((few, PART), (rules, MORE), (replace(rules, most_seeds=3), APART)):
        found = found_in(toy, tmp_path / "unsure", asks)["the best is above local"]
        assert found.words == words  # type: ignore[attr-defined]
        assert (found.p is None) == (words != APART)  # type: ignore[attr-defined]
    planted(toy, tmp_path / "sure", fake, 0.05)
    assert found_in(toy, tmp_path / "sure", few)["tuning helps"].words == PART  # type: ignore[attr-defined]


def test_parts_of_a_hospital_that_every_seed_cuts_anew_are_one_stratum(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """A patient who is now in one part and now in another counts once."""
    cut = replace(toy, sites=("a-1", "a-2"), small=(), parts=2)
    planted(cut, tmp_path, fake, 0.03)
    for file in tmp_path.rglob("*.json"):
        record = json.loads(file.read_text())
        for place, site in enumerate(("a-1", "a-2")):
            block = dict(record["sites"][site])
            half = [n for n in range(12) if (n + record["seed"]) % 2 == place]
            block |= {key: [block[key][n] for n in half] for key in ("names", "patients")}
            block["models"] = {
                kind: {**model, "cases": [model["cases"][n] for n in half]} for kind, model in block["models"].items()
            }
            record["sites"][site] = block
        file.write_text(json.dumps(record))
    rows = Rows(Results.read("toy", cut, tmp_path), rules)
    found = rows.difference({"one/fedit": 1, "one/local": -1})
    assert found is not None
    assert (found.patients, list(found.sites)) == (12, ["a"])
    part = rows.difference({"one/fedit": 1, "one/local": -1}, sites=["a-1"])
    assert part is not None
    assert list(part.sites) == ["a"]


def test_the_base_is_the_experiments_own_and_every_seed_counts_once(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """Rows on random values or another base score a base of their own; it is no base of the others."""
    more = replace(toy, entries={**toy.entries, "random": Entry(method="local", random=True)})
    planted(more, tmp_path, fake, 0.03)
    models = {"base": (0.1, [0.1] * 12), "personal": (0.99, [0.9] * 12)}
    for seed in (0, 1, 2):
        for rate in (0.001, 0.002, 0.004, 0.008):
            fake(more, tmp_path, "one", "random", rate, seed, models)
    assert Rows(Results.read("toy", more, tmp_path), rules).base("one", ["a"]) == pytest.approx(0.4)


def test_while_an_experiment_asks_for_seeds_all_its_announced_claims_wait(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """The seeds are made for all rows: a claim that looks settled is looked at once more with them."""
    planted(toy, tmp_path, fake, 0.05)
    unsure = Claim(text="unsure", primary=True, terms={"one/fedit_tuned": 1, "two/fedit": -1})
    asks = replace(toy, claims=[*toy.claims, unsure])
    for file in tmp_path.rglob("one/*.json"):
        record = json.loads(file.read_text())
        for block in record["sites"].values():
            noise = (0.06, -0.05, 0.0)[record["seed"]]
            block["models"]["tuned"]["cases"] = [value + noise for value in block["models"]["tuned"]["cases"]]
        file.write_text(json.dumps(record))
    found = found_in(asks, tmp_path, rules)
    assert {text: one.words for text, one in found.items() if one.claim.primary} == {  # type: ignore[attr-defined]
        "the best is above local": MORE,
        "fedit is equal to local for a tenth of the bytes": MORE,
        "unsure": MORE,
    }


def test_what_hangs_on_claims_that_have_not_run_is_not_judged(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    """With 40 others at 1 its p is too large, and with the same 40 at 0 it is not."""
    rules = replace(rules, most_seeds=rules.seeds)
    asks = replace(toy, claims=[replace(claim, primary="best" in claim.text) for claim in toy.claims])
    planted(toy, tmp_path, fake, 0.05)
    results = Results.read("toy", asks, tmp_path)
    others = Results("other", replace(toy, claims=[asks.claims[0]] * 40), {})
    p = verdicts([results], rules)[0].p
    assert p is not None
    strict = replace(rules, alpha=10 * p)
    assert verdicts([results], strict)[0].words == HELD
    assert verdicts([results, others], strict)[0].words == OTHERS
    assert verdicts([results, others], replace(rules, alpha=p / 2))[0].words == APART
    text, dear = "fedit is equal to local for a tenth of the bytes", "did not hold: too many bytes"
    cheap = replace(toy, claims=[replace(one, bytes_at_most=0.001) for one in toy.claims if one.text == text])
    found = verdicts([Results("toy", cheap, results.records), others], replace(strict, alpha=0.9))[0]
    assert found.words == dear  # whatever the others will be


def test_without_a_scored_base_an_equality_waits_and_has_no_margin(
    toy: Experiment, rules: Protocol, fake: Fake, tmp_path: Path
) -> None:
    planted(toy, tmp_path, fake, 0.0)
    for file in tmp_path.rglob("*.json"):
        record = json.loads(file.read_text())
        for block in record["sites"].values():
            block["models"].pop("base", None)
        file.write_text(json.dumps(record))
    found = found_in(toy, tmp_path, rules)["fedit is equal to local for a tenth of the bytes"]
    assert (found.words, found.margin, found.p) == (NO_BASE, None, None)  # type: ignore[attr-defined]
