"""Scores of many cases against values by hand, in many draws at once, and where a class is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sitelora.evaluation.scores import case_scores, summarise
from sitelora.run_result import CaseScore
from sitelora.tasks.classes.decision import decide
from sitelora.tasks.classes.set_scores import score_set
from sitelora.tasks.classification import BALANCED_ACCURACY, SET_METRICS, TASK, score_case

Row = tuple[int, Sequence[float]]
BY_HAND: list[Row] = [(1, (0.1, 0.9)), (1, (0.6, 0.4)), (0, (0.3, 0.7)), (0, (0.8, 0.2)), (0, (0.95, 0.05))]
"""True class and probabilities: one of two positives found, one of three others taken for one."""


def cases(rows: Sequence[Row], *, classes: int = 2) -> list[CaseScore]:
    labels = {value: f"class {value}" for value in range(classes)}
    found = []
    for number, (truth, probabilities) in enumerate(rows):
        answer = decide(np.log(np.maximum(probabilities, 1e-300)), {})
        metrics = score_case(answer, truth, labels)
        found.append(CaseScore(case=f"c{number:03d}", patient=f"p{number:03d}", metrics=metrics))
    return found


def scored(rows: Sequence[Row], *, classes: int = 2) -> dict[str, float]:
    found = score_set(cases(rows, classes=classes), np.ones((1, len(rows))))
    return {name: float(value[0]) for name, value in found.items()}


def test_two_classes_by_hand() -> None:
    found = scored(BY_HAND)
    assert found.keys() == {metric.name for metric in SET_METRICS}
    assert found["sensitivity"] == pytest.approx(1 / 2)
    assert found["specificity"] == pytest.approx(2 / 3)
    assert found["auc"] == pytest.approx(5 / 6)  # of six pairs only 0.4 below 0.7 is the wrong way round
    assert found["mcc"] == pytest.approx((1 * 2 - 1 * 1) / np.sqrt(2 * 2 * 3 * 3))
    assert found["brier"] == pytest.approx(np.mean([0.1**2, 0.6**2, 0.7**2, 0.2**2, 0.05**2]))
    assert found["ece"] == pytest.approx(np.mean([0.1, 0.6, 0.7, 0.2, 0.05]))  # every case in a bin of its own
    assert (found["ece_uncalibrated"], found["brier_uncalibrated"]) == (found["ece"], found["brier"])
    assert summarise(cases(BY_HAND), BALANCED_ACCURACY)["score"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_calibration_is_of_the_bins_not_of_the_cases() -> None:
    rows: list[Row] = [(truth, (0.25, 0.75)) for truth in (1, 1, 1, 0)]
    assert scored(rows)["ece"] == pytest.approx(0.0)
    assert scored([*rows, (1, (0.25, 0.75))])["ece"] == pytest.approx(0.05)


def test_equal_probabilities_are_half_a_pair_each() -> None:
    assert scored([(1, (0.5, 0.5)), (0, (0.5, 0.5)), (0, (0.9, 0.1))])["auc"] == pytest.approx(0.75)


def test_probabilities_of_a_very_sure_model_are_told_apart_in_an_area() -> None:
    rows: list[Row] = [(truth, (1.0, 10.0 ** -(20 - truth))) for truth in (0, 1)]
    assert scored(rows)["auc"] == 1.0


def test_three_classes_are_each_against_the_rest() -> None:
    rows: list[Row] = [(0, (0.7, 0.2, 0.1)), (0, (0.3, 0.6, 0.1)), (1, (0.2, 0.5, 0.3)), (2, (0.1, 0.1, 0.8))]
    found = scored(rows, classes=3)
    assert found["sensitivity"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert found["specificity"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert found["auc"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert found["mcc"] == pytest.approx((3 * 4 - (2 * 1 + 1 * 2 + 1 * 1)) / np.sqrt((16 - 6) * (16 - 6)))


@pytest.mark.parametrize("classes", [2, 4])
def test_areas_are_the_shares_of_pairs_in_the_right_order(classes: int) -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(classes), 60).round(1) + 0.01
    shares /= shares.sum(axis=1, keepdims=True)
    truth = [int(rng.choice(classes, p=share)) for share in shares]
    areas = []
    for value in range(classes):
        own = [share[value] for share, of in zip(shares, truth, strict=True) if of == value]
        others = [share[value] for share, of in zip(shares, truth, strict=True) if of != value]
        ahead = [round(one - two, 9) for one in own for two in others]
        areas.append(np.mean([1.0 if each > 0 else 0.5 if each == 0 else 0.0 for each in ahead]))
    found = scored([(of, share.tolist()) for of, share in zip(truth, shares, strict=True)], classes=classes)
    assert found["auc"] == pytest.approx(areas[1] if classes == 2 else np.mean(areas))


def test_many_draws_at_once_are_each_of_their_cases() -> None:
    rng = np.random.default_rng(1)
    weights = rng.multinomial(len(BY_HAND), np.ones(len(BY_HAND)) / len(BY_HAND), size=20)
    together = score_set(cases(BY_HAND), weights.astype(float))
    for draw, times in enumerate(weights):
        alone = scored([row for row, often in zip(BY_HAND, times, strict=True) for _ in range(often)])
        for name, value in alone.items():
            assert together[name][draw] == pytest.approx(value, nan_ok=True), name


def test_one_class_alone_has_calibration_and_nothing_else() -> None:
    summary = summarise([*cases(BY_HAND[:2]), *cases(BY_HAND[:2])], BALANCED_ACCURACY, score_set=score_set)
    assert summary["score"] == 0.5, "balanced accuracy over the classes that are there"
    assert summary["labels"]["class 0"]["balanced_accuracy"] is None
    found = summary["set_scores"]
    assert found["sensitivity"] == 0.5
    assert found["specificity"] is found["auc"] is found["mcc"] is None
    assert found["brier"] == pytest.approx((0.1**2 + 0.6**2) / 2)


def test_of_three_classes_the_one_that_is_not_there_has_no_part() -> None:
    rows: list[Row] = [(0, (0.7, 0.2, 0.1)), (0, (0.3, 0.1, 0.6)), (1, (0.2, 0.5, 0.3))]
    found = scored(rows, classes=3)
    assert found["sensitivity"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["auc"] == pytest.approx(1.0)


def test_a_model_that_always_says_the_same_has_no_correlation() -> None:
    assert scored([(1, (0.1, 0.9)), (0, (0.2, 0.8))])["mcc"] == 0.0


def test_between_rounds_there_is_the_primary_score_alone() -> None:
    metrics = score_case(decide([0.0, 1.0], {}), 1, {0: "a", 1: "b"}, primary_only=True)
    case = CaseScore(case="c", patient="p", metrics=metrics)
    assert metrics == {"a": {"balanced_accuracy": None}, "b": {"balanced_accuracy": 1.0}}
    assert score_set([case], np.ones((1, 1))) == {}
    assert TASK.plots([case]) == ()


def test_intervals_are_over_patients_and_within_what_a_score_can_be() -> None:
    rng = np.random.default_rng(2)
    rows: list[Row] = []
    for number in range(60):
        share = float(rng.uniform(0.55, 1.0))
        rows.append((int(number % 6 == 0), (1 - share, share) if number % 6 == 0 else (share, 1 - share)))
    summary = summarise(cases(rows), BALANCED_ACCURACY, score_set=score_set)
    assert summary["score"] == pytest.approx(1.0)
    assert summary["score_ci95"] == pytest.approx([1.0, 1.0]), "not more than all of them, however few a class has"
    low, high = summary["set_ci95"]["brier"]
    assert low < summary["set_scores"]["brier"] < high
    assert "score_worst" not in summary


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    rows: list[Row] = [(0, (0.9, 0.1))] * 9 + [(1, (0.9, 0.1))]
    weighted = case_scores(cases(rows), BALANCED_ACCURACY)
    assert np.mean(weighted) == pytest.approx(0.5)
    assert weighted[:9] == pytest.approx([10 / (2 * 9)] * 9)
    rare_found = case_scores(cases([*rows[:8], (0, (0.1, 0.9)), (1, (0.1, 0.9))]), BALANCED_ACCURACY)
    assert BALANCED_ACCURACY.better(float(np.mean(rare_found)), 0.5)
