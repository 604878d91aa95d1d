"""No name of a case or patient leaves with the scores, and the server rebuilds the site's own evaluation exactly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sitelora.evaluation.anonymise_scores import from_columns, to_columns
from sitelora.evaluation.scores import summarise
from sitelora.run_result import CaseScore
from sitelora.tasks.segmentation import TASK

LABELS = {0: "background", 1: "prostate", 2: "apex"}
PATIENTS = [f"Miller {number}" for number in (3, 1, 12, 2, 11)]


def results(shift: float, *, cases: int = 11) -> dict[str, Any]:
    """Eleven cases of five patients, so that 10 must come after 9; one HD95 is undefined."""
    scores = [
        CaseScore(
            case=f"MILLER_{number}",
            patient=PATIENTS[number % 5],
            metrics={
                "prostate": {"dice": 0.3 + shift + number / 31, "hd95_mm": None if number == 4 else number / 7},
                "apex": {"dice": 0.1 + number / 37, "hd95_mm": 1.0},
            },
        )
        for number in range(cases)
    ]
    return summarise(scores, TASK.primary)


def sent(evaluation: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(to_columns(evaluation, LABELS)))


def test_names_are_gone_and_nothing_is_nested() -> None:
    report = sent({"base": results(0.0), "personal": results(0.1), "global": {"not_applicable": "because"}})
    assert "iller" not in json.dumps(report).lower()
    assert all(not isinstance(entry, dict | list) for key in ("columns", "patients", "scores") for entry in report[key])
    assert report["columns"][:2] == ["base.1.dice", "base.1.hd95_mm"]


def test_the_server_has_the_sites_own_numbers_bit_for_bit() -> None:
    own = {"base": results(0.0), "personal": results(0.1), "global": {"not_applicable": "because"}}
    told = from_columns(sent(own), {str(value): name for value, name in LABELS.items()}, TASK)
    assert told.keys() == own.keys()
    assert told["global"] == own["global"]
    for kind in ("base", "personal"):
        for key in ("score", "score_median", "score_worst", "score_ci95", "patient_count", "case_count", "labels"):
            assert told[kind][key] == own[kind][key], key
        assert [case["metrics"] for case in told[kind]["cases"]] == [case["metrics"] for case in own[kind]["cases"]]
        assert [case["case"] for case in told[kind]["cases"]] == [f"case {number}" for number in range(1, 12)]
        assert len({case["patient"] for case in told[kind]["cases"]}) == 5


def test_two_cases_of_one_name_stay_two() -> None:
    twice = summarise(
        [CaseScore(case="scan", patient="p", metrics={"prostate": {"dice": dice}}) for dice in (0.5, 0.75)],
        TASK.primary,
    )
    told = from_columns(sent({"personal": twice}), {"1": "prostate"}, TASK)
    assert [case["metrics"]["prostate"]["dice"] for case in told["personal"]["cases"]] == [0.5, 0.75]


def test_which_model_the_personal_one_is_comes_along() -> None:
    served = {"model": "previous", "round": 0, "validation": 0.5}
    told = from_columns(sent({"personal": {**results(0.0), "served": served}}), {"1": "prostate", "2": "apex"}, TASK)
    assert told["personal"]["served"] == served


def test_models_scored_on_different_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="personal model was scored on 10 of 11 cases"):
        to_columns({"base": results(0.0), "personal": results(0.0, cases=10)}, LABELS)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"scores": [0.5]}, "found 1 scores in 2 columns of 1 cases"),
        ({"columns": ["base.1.dice", "base.1.dice"]}, "every column once"),
        ({"columns": ["base.7.dice", "base.1.dice"]}, "found the column base.7.dice"),
        ({"scores": [None, None]}, "no finite Dice"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change: dict[str, Any], found: str) -> None:
    report = {"columns": ["base.1.dice", "base.1.nsd"], "patients": [1], "scores": [0.5, 0.5], "not_applicable": {}}
    with pytest.raises(ValueError, match=found):
        from_columns({**report, **change}, {"1": "prostate"}, TASK)
