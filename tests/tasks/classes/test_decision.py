"""What a site fits on its validation cases: the temperature that is the true one, limits where they are no chance."""

from __future__ import annotations

import numpy as np
import pytest

from sitelora.tasks.classes.decision import FEWEST, Decision, decide, fit, fitted_temperature
from sitelora.tasks.classification import BALANCED_ACCURACY, fit_decision
from sitelora.typed_json import TypedJsonError

LABELS = {0: "a", 1: "b"}


def drawn(cases: int, *, classes: int = 2, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes that have exactly their probabilities once ``shift`` is added to the first class."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (cases, classes))
    true = logits.copy()
    true[:, 0] += shift
    shares = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    return logits, np.array([rng.choice(classes, p=share) for share in shares])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_is_the_one_that_logits_were_made_with(temperature: float, classes: int) -> None:
    logits, truth = drawn(4000, classes=classes)
    assert fitted_temperature(logits * temperature, truth) == pytest.approx(temperature, rel=0.1)


def test_cases_without_a_mistake_do_not_make_a_model_certain() -> None:
    truth = np.arange(30) % 2
    logits = np.stack([1.0 - truth, truth], axis=1)
    sure = decide(logits[0] / fitted_temperature(logits, truth), {}).probabilities.max()
    assert 0.9 < sure < 0.99


def test_a_threshold_is_moved_where_a_class_would_be_missed_and_not_by_chance() -> None:
    rng = np.random.default_rng(4)
    truth = np.arange(60) % 2
    logits = np.stack([np.full(60, 2.0), 2.0 * truth + rng.normal(0, 0.5, 60)], axis=1)
    missed = fit(logits, truth.tolist(), by=BALANCED_ACCURACY)
    assert missed.threshold < 0.45
    assert "threshold 0." in missed.why
    fair, classes = drawn(40)
    assert fit(fair, classes.tolist(), by=BALANCED_ACCURACY).threshold == 0.5


def test_offsets_bring_back_a_class_that_is_never_chosen() -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(90) % 3
    logits = 2.0 * np.eye(3)[truth] + rng.normal(0, 0.3, (90, 3)) - np.array([2.5, 0.0, 0.0])
    found = fit(logits, truth.tolist(), by=BALANCED_ACCURACY)
    chosen = [decide(row, found.to_json()).chosen for row in logits]
    assert np.mean(np.array(chosen) == truth) > 0.95
    assert np.mean([decide(row, {}).chosen == value for row, value in zip(logits, truth, strict=True)]) < 0.8
    assert "offsets by class" in found.why


@pytest.mark.parametrize(("truth", "why"), [([0, 1] * (FEWEST // 2 - 1), "of 2 classes"), ([1] * 50, "of 1 class")])
def test_of_few_cases_or_one_class_nothing_is_fitted_and_it_is_said(truth: list[int], why: str) -> None:
    found = fit(np.random.default_rng(0).normal(size=(len(truth), 2)), truth, by=BALANCED_ACCURACY)
    assert (found.temperature, found.threshold, found.offsets) == (1.0, 0.5, ())
    assert found.why.startswith("not fitted: ")
    assert why in found.why
    assert fit_decision([], LABELS) == {
        "temperature": 1.0,
        "threshold": 0.5,
        "offsets": [],
        "why": "not fitted: no validation cases",
    }


def test_what_is_decided_is_what_the_file_says() -> None:
    told = Decision(temperature=2.0, threshold=0.7, why="x").to_json()
    answer = decide([0.0, 2.0], told)
    assert answer.probabilities[1] == pytest.approx(1 / (1 + np.exp(-1)))
    assert answer.uncalibrated[1] == pytest.approx(1 / (1 + np.exp(-2)))
    assert answer.chosen == 1
    assert decide([0.0, 2.0], {**told, "threshold": 0.75}).chosen == 0
    assert decide([0.0, 2.0, 1.0], {"offsets": [3.0, 0.0, 0.0]}).chosen == 0
    with pytest.raises(TypedJsonError, match="temperature"):
        decide([0.0, 1.0], {"temperature": "warm"})


def test_a_threshold_far_below_the_last_place_of_a_rounded_one_still_tells_the_classes_apart() -> None:
    truth = np.arange(20) % 2
    logits = np.stack([np.zeros(20), -180.0 + 30 * truth - 0.01 * np.arange(20)], axis=1)
    found = fit(logits, truth.tolist(), by=BALANCED_ACCURACY)
    assert 0 < found.threshold < 1e-6
    assert [decide(one, found.to_json()).chosen for one in logits] == truth.tolist()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"temperature": 0}, "temperature of 0"),
        ({"temperature": -1.0}, "temperature of -1"),
        ({"temperature": 1e-320}, "temperature"),
        ({"threshold": 5}, "threshold of 5"),
        ({"offsets": [0.0, 1e9, 0.0]}, "an offset of 1e"),
        ({"offsets": [1.0]}, "1 offsets in a decision, expected none or 3"),
    ],
)
def test_a_decision_that_no_site_fits_is_refused(told: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decide([1.0, 2.0, 3.0], told)
