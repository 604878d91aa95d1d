"""A comparison of classifications: balanced accuracy paired case by case, set scores, no interval beyond 1."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sitelora.comparison.page import write_page
from sitelora.comparison.record import model_record
from sitelora.comparison.runs import Runs, read_runs
from sitelora.comparison.scores import ALL_SITES, case_values, differences, overall, score, set_score
from sitelora.comparison.setup import Setup
from sitelora.tasks.classification import TASK
from sitelora.typed_json import to_json

LABELS = {0: "normal", 1: "disease"}
CASES = [f"c{number:02d}" for number in range(40)]
TRUTH = {case: int(number % 5 == 0) for number, case in enumerate(CASES)}
"""One in five."""


def record(accuracy: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    cases = []
    for case in CASES:
        side = 1.0 if rng.random() < accuracy else -1.0
        logits = side * rng.uniform(0.5, 2.0) * (2 * np.array([1 - TRUTH[case], TRUTH[case]]) - 1)
        metrics = TASK.score_case(TASK.decide(logits, {}), TRUTH[case], LABELS, primary_only=False)
        cases.append({"case": case, "patient": case, "metrics": metrics})
    return model_record(cases, TASK)


@pytest.fixture(scope="module")
def folder(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny comparison's files, with classified cases in the place of its own: local guesses, FedIT knows."""
    out = tmp_path_factory.mktemp("classes")
    (out / "runs/tiny").mkdir(parents=True)
    for file in (compared / "runs/tiny").glob("*.json"):
        run = json.loads(file.read_text(encoding="utf-8"))
        if run["method"] not in ("local", "fedavg_lora"):
            continue
        for seed in (0, 1):
            run |= {**to_json(TASK.scoring), "seed": seed}
            for number, block in enumerate(run["sites"].values()):
                accuracy = 1.0 if run["method"] == "fedavg_lora" else 0.6
                models = {"personal": record(accuracy, 10 * seed + number), "base": record(0.5, 90 + number)}
                block |= {"patients": {case: case for case in CASES}, "models": models, "elsewhere": {}}
            target = out / "runs/tiny" / file.name.replace("seed0", f"seed{seed}")
            target.write_text(json.dumps(run), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def runs(folder: Path) -> Runs:
    return read_runs(folder, "tiny")


def test_the_mean_over_cases_is_balanced_accuracy(runs: Runs) -> None:
    run = runs.by_method["local"][0]
    for site in runs.sites:
        block = run["sites"][site]["models"]["personal"]
        values = case_values(run, site, "personal")
        assert values is not None
        assert np.mean(list(values.values())) == pytest.approx(block["score"])
        by_label = [score([run], site, label=label) for label in LABELS.values()]
        assert np.mean([one.mean for one in by_label if one]) == pytest.approx(block["score"])


def test_a_perfect_method_has_an_interval_of_one_and_is_told_apart(runs: Runs) -> None:
    perfect = overall(runs.by_method["fedavg_lora"], runs.sites)
    assert perfect is not None
    assert perfect.mean == pytest.approx(1.0)
    assert perfect.interval == pytest.approx((1.0, 1.0))
    found = differences(runs)["fedavg_lora"]
    for at, one in found.items():
        local = overall(runs.by_method["local"], runs.sites if at == ALL_SITES else [at])
        assert local is not None
        assert one.mean == pytest.approx(1.0 - local.mean)
        assert one.verdict == "above"


def test_set_scores_are_means_over_seeds(runs: Runs) -> None:
    found = set_score(runs.by_method["local"], runs.sites[0], "auc")
    told = [run["sites"][runs.sites[0]]["models"]["personal"]["set_scores"]["auc"] for run in runs.by_method["local"]]
    assert found is not None
    assert found.mean == pytest.approx(np.mean(told))
    assert found.deviation == pytest.approx(np.std(told, ddof=1))
    assert found.interval is not None
    assert set_score(runs.by_method["local"], runs.sites[0], "no such") is None


def test_page_and_rows_say_it(folder: Path, setup: Setup) -> None:
    page = write_page("tiny", setup, folder).read_text(encoding="utf-8")
    assert "## Personal model, Balanced accuracy on each site's test patients" in page
    assert "### What all test cases of a site say together" in page
    assert "site-1, AUC" in page
    assert "site-1, Probability of truth" in page
    rows = list(csv.DictReader((folder / "tiny.csv").read_text(encoding="utf-8").splitlines()))
    of_all = {row["metric"] for row in rows if not row["label"] and row["model"] == "personal"}
    assert of_all == {"balanced_accuracy", *(metric.name for metric in TASK.set_metrics)}
    for row in rows:
        assert float(row["ci95_high"] or 1) <= 1 + 1e-9
