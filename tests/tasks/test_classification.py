"""Classification from a case in a site's list to numbers that leave it, and what the server refuses of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sitelora.data.errors import SiteDataError
from sitelora.data.nifti import write_nifti
from sitelora.evaluation.anonymise_scores import from_columns, to_columns
from sitelora.evaluation.scores import summarise
from sitelora.federation.reports import SCORES
from sitelora.run_result import CaseScore
from sitelora.task import CaseMetrics
from sitelora.tasks.classification import TASK

LABELS = {0: "normal", 1: "disease"}
NAMES = {str(value): name for value, name in LABELS.items()}
DECISION = {"temperature": 2.0, "threshold": 0.6, "offsets": [], "why": "temperature 2.00, threshold 0.6"}


def metrics(logits: tuple[float, float], truth: int) -> CaseMetrics:
    answer = TASK.decide(TASK.prediction(torch.tensor([logits])), DECISION)
    return TASK.score_case(answer, truth, LABELS, primary_only=False)


def results() -> dict[str, Any]:
    rows = [((0.0, 2.0), 1), ((0.0, 0.5), 1), ((3.0, 0.0), 0), ((0.1, 0.0), 0)]
    cases = [
        CaseScore(case=f"MILLER_{number}", patient=f"Miller {number}", metrics=metrics(logits, truth))
        for number, (logits, truth) in enumerate(rows)
    ]
    return {"personal": {**summarise(cases, TASK.primary, score_set=TASK.score_set), "decision": DECISION}}


@pytest.mark.parametrize("value", [2, -1, True, 1.0, "1", None])
def test_a_class_that_the_site_does_not_list_is_refused(value: object) -> None:
    assert TASK.read_truth({"image": "a.png", "class": 1}, LABELS) == 1
    with pytest.raises(SiteDataError, match=r"a\.png: found class .*expected one of \[0, 1\]"):
        TASK.read_truth({"image": "a.png", "class": value}, LABELS)


def test_a_case_is_scored_by_the_decision_that_is_served() -> None:
    found = metrics((0.0, 0.5), 1)  # 0.62 uncalibrated, 0.56 with the temperature: below the threshold
    assert found["disease"] == {
        "balanced_accuracy": 0.0,
        "truth_probability": pytest.approx(1 / (1 + np.exp(-0.25))),
        "chosen": 0.0,
        "probability": pytest.approx(1 / (1 + np.exp(-0.25))),
        "uncalibrated": pytest.approx(1 / (1 + np.exp(-0.5))),
    }
    assert found["normal"]["balanced_accuracy"] is None
    assert TASK.wrong(found) == ""


def test_more_logits_than_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="found 3 probabilities, expected one for each of the 2 labels"):
        TASK.score_case(TASK.decide(np.zeros(3), {}), 0, LABELS, primary_only=False)


def test_the_server_has_the_sites_own_numbers_and_no_names() -> None:
    own = results()
    told = json.loads(json.dumps(SCORES.read({**to_columns(own, LABELS), "seconds": 1.0}, sender="site-1")))
    assert "iller" not in json.dumps(told).lower()
    found = from_columns(told, NAMES, TASK)["personal"]
    for key in ("score", "score_ci95", "set_scores", "set_ci95", "labels"):
        assert found[key] == own["personal"][key], key
    assert found["decision"] == {"why": DECISION["why"]}


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("personal.1.probability", 1.5, r"case 1 of the personal model: found Probability 1\.5"),
        ("personal.1.probability", 0.1, "truth_probability"),
        ("personal.0.probability", 0.9, "expected numbers that add up to one"),
        ("personal.0.uncalibrated", None, "expected numbers that add up to one"),
        ("personal.0.balanced_accuracy", 1.0, "2 true classes"),
        ("personal.1.balanced_accuracy", 0.0, "balanced_accuracy 0.0 where the chosen"),
        ("personal.1.chosen", 0.0, "expected one of each"),
        ("personal.0.chosen", 1.0, "where the chosen classes are"),
        ("personal.1.chosen", 0.5, "expected one of each"),
    ],
)
def test_numbers_that_no_case_has_are_refused(column: str, value: float | None, found: str) -> None:
    told = to_columns(results(), LABELS)
    told["scores"][told["columns"].index(column) * len(told["patients"])] = value
    with pytest.raises(ValueError, match=found):
        from_columns(told, NAMES, TASK)


def test_the_second_class_is_the_positive_one_in_whichever_order_columns_come() -> None:
    own = results()
    told = to_columns(own, LABELS)
    cases = len(told["patients"])
    parts = [told["scores"][place * cases : (place + 1) * cases] for place in range(len(told["columns"]))]
    turned = {"columns": told["columns"][::-1], "scores": [score for part in parts[::-1] for score in part]}
    assert from_columns({**told, **turned}, NAMES, TASK)["personal"]["set_scores"] == own["personal"]["set_scores"]


def test_one_class_alone_is_no_answer() -> None:
    alone = {"disease": dict.fromkeys(("balanced_accuracy", "truth_probability", "chosen", "probability"), 1.0)}
    assert TASK.wrong({"disease": {**alone["disease"], "uncalibrated": 1.0}}) == "1 class, expected two or more"


def test_a_number_of_another_name_is_refused() -> None:
    told = to_columns(results(), LABELS)
    told["columns"] = [column.replace("uncalibrated", "voxel_17") for column in told["columns"]]
    with pytest.raises(ValueError, match="voxel_17 of normal, expected one of balanced_accuracy"):
        from_columns(told, NAMES, TASK)


@pytest.mark.parametrize("kind", ["picture", "colours", "volume", "two phases"])
def test_what_is_kept_of_a_case_is_drawn(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind in ("picture", "colours"):
        image = tmp_path / "case.png"
        values = rng.integers(0, 255, (40, 60, 3) if kind == "colours" else (40, 60))
        Image.fromarray(values.astype(np.uint8)).save(image)
    else:
        image = tmp_path / "case.nii.gz"
        shape = (48, 32, 5, 2) if kind == "two phases" else (48, 32, 5)
        write_nifti(image, rng.integers(0, 900, shape).astype(np.int16), np.diag([-1.5, -1.5, 8.0, 1.0]))
    TASK.keep(TASK.decide(np.array([0.0, 1.0]), DECISION), 0, tmp_path, "case")
    case = {"image": str(image), "class": 0}
    TASK.draw(case, tmp_path, "case", tmp_path / "x.png", labels=LABELS, title="case")
    width, height = Image.open(tmp_path / "x.png").size
    rows, columns = {"picture": (40, 60), "colours": (40, 60), "volume": (32, 48), "two phases": (32, 96)}[kind]
    assert (height - 2 * 38) / width == pytest.approx(rows / columns, abs=0.01)


def test_the_most_certain_mistakes_come_first_and_right_cases_never() -> None:
    rows = {"sure": ((4.0, 0.0), 1), "right": ((0.0, 9.0), 1), "unsure": ((1.0, 0.0), 1), "other": ((0.0, 3.0), 0)}
    cases = [CaseScore(case=name, patient=name, metrics=metrics(*row)) for name, row in rows.items()]
    chosen = TASK.album.chosen(cases, TASK.primary)
    assert [case.case for case in chosen.values()] == ["sure", "other", "unsure"]
