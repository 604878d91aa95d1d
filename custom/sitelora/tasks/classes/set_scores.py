"""Scores of many cases with one class each, from their numbers alone and in many draws at once.

Two classes: the second is the positive one. More: one class against the rest, the mean over the classes that are there.
A class that no case has has no score; where there is one class alone nothing but calibration has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sitelora.run_result import CaseScore

BINS = 10
"""Of calibration, of equal width (Naeini et al. 2015)."""
RIGHT, CHOSEN, PROBABILITY, UNCALIBRATED = "balanced_accuracy", "chosen", "probability", "uncalibrated"
"""Of a case and a class: 1 or 0 under the true class alone, and for every class."""

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The cases as arrays.

    Attributes:
        names: of the classes. truth, chosen: their places, ``[N]``.
        probability, uncalibrated: with the temperature and without, ``[N, K]``.
    """

    names: tuple[str, ...]
    truth: NDArray[np.integer]
    chosen: NDArray[np.integer]
    probability: Values
    uncalibrated: Values

    @classmethod
    def of(cls, cases: Sequence[CaseScore]) -> Answers | None:
        """Return the cases' answers; None where they have none, as between rounds."""
        names = tuple(cases[0].metrics) if cases else ()
        if not names or any(PROBABILITY not in case.metrics[name] for case in cases for name in names):
            return None

        def all_of(metric: str) -> Values:
            return np.array([[case.metrics[name].get(metric) for name in names] for case in cases], dtype=np.float64)

        return cls(
            names=names,
            truth=np.isfinite(all_of(RIGHT)).argmax(axis=1),
            chosen=all_of(CHOSEN).argmax(axis=1),
            probability=all_of(PROBABILITY),
            uncalibrated=all_of(UNCALIBRATED),
        )

    def sure_and_right(self, probability: Values) -> tuple[Values, Values]:
        """Return what calibration compares, ``[N]`` each: how sure, and 1 where it came true.

        Two classes: the probability of the positive one. More: the largest probability and whether its class is true.
        """
        if len(self.names) == 2:
            return probability[:, 1], (self.truth == 1).astype(np.float64)
        return probability.max(axis=1), (probability.argmax(axis=1) == self.truth).astype(np.float64)


def score_set(cases: Sequence[CaseScore], weights: Values) -> Mapping[str, Values]:
    """Return every score in every draw, ``[R]``, NaN where it is undefined; nothing where cases have no probabilities.

    Args:
        cases: N of them. weights: how often a case counts in a draw, ``[R, N]``.
    """
    answers = Answers.of(cases)
    if answers is None:
        return {}
    matrix = confusion(answers, weights)
    of_class = matrix.sum(axis=2)
    given = of_class > 0
    right = np.diagonal(matrix, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = right / of_class
        others = of_class.sum(axis=1, keepdims=True) - of_class
        specificity = (others - (matrix.sum(axis=1) - right)) / others
        areas = _areas(answers, weights)
    if len(answers.names) == 2:
        by_class = {"sensitivity": sensitivity[:, 1], "specificity": specificity[:, 1], "auc": areas[:, 1]}
    else:
        by_class = {
            "sensitivity": _mean_of(sensitivity, given),
            "specificity": _mean_of(specificity, given),
            "auc": _mean_of(areas, given),
        }
    return {
        **by_class,
        "mcc": _correlation(matrix),
        "ece": _calibration_error(answers, answers.probability, weights),
        "ece_uncalibrated": _calibration_error(answers, answers.uncalibrated, weights),
        "brier": _brier(answers, answers.probability, weights),
        "brier_uncalibrated": _brier(answers, answers.uncalibrated, weights),
    }


def confusion(answers: Answers, weights: Values) -> Values:
    """Return cases by true and chosen class in every draw, ``[R, K, K]``."""
    classes = len(answers.names)
    cells = np.zeros((len(answers.truth), classes * classes))
    cells[np.arange(len(cells)), answers.truth * classes + answers.chosen] = 1
    return (weights @ cells).reshape(-1, classes, classes)


def _areas(answers: Answers, weights: Values) -> Values:
    """Return for every class the share of pairs, it and another, that its probability orders rightly; ``[R, K]``."""
    found = []
    for value in range(len(answers.names)):
        scores, place = np.unique(in_order(answers.probability[:, value]), return_inverse=True)
        groups = np.zeros((len(place), len(scores)))
        groups[np.arange(len(place)), place] = 1
        own = answers.truth == value
        with_it, without = (weights * own) @ groups, (weights * ~own) @ groups
        below = without.cumsum(axis=1) - without / 2  # equal ones count half
        found.append((with_it * below).sum(axis=1) / (with_it.sum(axis=1) * without.sum(axis=1)))
    return np.stack(found, axis=1)


def _mean_of(by_class: Values, given: NDArray[np.bool_]) -> Values:
    """Return the mean over the classes that a draw has, NaN where it has one alone."""
    several = given.sum(axis=1) > 1
    total = np.where(given, by_class, 0.0).sum(axis=1)
    return np.where(several, total / np.maximum(given.sum(axis=1), 1), np.nan)


def _correlation(matrix: Values) -> Values:
    """Return Matthews' correlation, for any number of classes (Gorodkin 2004); 0 where one class is always chosen."""
    truth, chosen = matrix.sum(axis=2), matrix.sum(axis=1)
    total, right = matrix.sum(axis=(1, 2)), np.trace(matrix, axis1=1, axis2=2)
    spread_of_truth = total**2 - (truth**2).sum(axis=1)
    spread = spread_of_truth * (total**2 - (chosen**2).sum(axis=1))
    found = (right * total - (truth * chosen).sum(axis=1)) / np.sqrt(np.where(spread > 0, spread, 1.0))
    return np.where(spread_of_truth > 0, found, np.nan)


def _calibration_error(answers: Answers, probability: Values, weights: Values) -> Values:
    """Return the mean over bins of how far the mean probability is from the share that came true, by cases."""
    sure, right = answers.sure_and_right(probability)
    bins = np.zeros((len(sure), BINS))
    bins[np.arange(len(sure)), bin_of(sure)] = 1
    return np.asarray(np.abs(weights @ (bins * (right - sure)[:, None])).sum(axis=1) / weights.sum(axis=1))


def in_order(probability: Values) -> Values:
    """Return numbers in the order of probabilities, equal where these are to twelve digits, however small they are."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probability).round(12))


def bin_of(sure: Values) -> NDArray[np.integer]:
    """Return the bin of every probability, the last one with its upper end."""
    return np.minimum((sure * BINS).astype(np.int64), BINS - 1)


def _brier(answers: Answers, probability: Values, weights: Values) -> Values:
    """Return half the mean squared distance from the truth over all classes (Brier 1950); of two, that of either."""
    truth = np.eye(len(answers.names))[answers.truth]
    return np.asarray(weights @ ((probability - truth) ** 2).sum(axis=1) / 2 / weights.sum(axis=1))
