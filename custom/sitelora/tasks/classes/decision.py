"""From logits to a decision: temperature (Guo et al. 2017), a threshold (two classes) or an offset a class (more).

What is fitted on a site's validation cases is kept in the model's file and read wherever the model answers, in scoring
and in serving: `decide` is the one way from logits to probabilities and a class.

The temperature is the likelihood's, as if one case more were of every class alike (after Platt 1999; our choice), so
that cases which are told apart without a mistake do not make a model certain of everything. Thresholds and offsets are
those of the best balanced accuracy on the same cases, and are only taken where they are better than none by more than
the standard error of the paired difference, as a served model is (our choice): of a handful of cases the best threshold
is chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from sitelora.metric import Metric, balanced_weights
from sitelora.typed_json import from_json, to_json

Logits = NDArray[np.float64]

FEWEST, FEWEST_OF_A_CLASS = 12, 4
"""Validation cases below which nothing is fitted, and cases of a class below which its limit stays (our choice)."""
TEMPERATURES = (0.1, 10.0)
OFFSETS = np.linspace(-3.0, 3.0, 61)
"""Tried for every class, in logits."""
SWEEPS = 3


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a model's logits become probabilities and a class.

    Attributes:
        temperature: that logits are divided by. threshold: of the second of two classes' probability, above which it
            is chosen. offsets: added to the log probabilities of three classes or more before the largest is chosen.
        why: how it came about, in a few words.

    Raises:
        ValueError: numbers that no site fits; a model's file may come from anywhere.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    offsets: Sequence[float] = ()
    why: str = "not fitted"

    def __post_init__(self) -> None:
        for name, found, (low, high) in (
            ("temperature", self.temperature, TEMPERATURES),
            ("threshold", self.threshold, (0.0, 1.0)),
            *(("an offset", offset, (OFFSETS[0], OFFSETS[-1])) for offset in self.offsets),
        ):
            if not low <= found <= high:
                raise ValueError(f"found {name} of {found:g} in a decision, expected {low:g} to {high:g}")

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Decision:
        """Return what a model's file says of it; nothing is the plain one.

        Raises:
            ValueError: it says something else.
        """
        return from_json(cls, dict(told))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        told: dict[str, Any] = to_json(self)
        return told


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says of one case.

    Attributes:
        probabilities, uncalibrated: of the classes ``[K]``, with the temperature and without. chosen: the class.
    """

    probabilities: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]
    chosen: int


def decide(logits: Any, decision: Mapping[str, Any]) -> Answer:
    """Return a case's probabilities and class.

    Args:
        logits: ``[K]``, any values of which the softmax are the probabilities. decision: as a model's file has it.

    Raises:
        ValueError: a decision that says something else, or is of another number of classes.
    """
    values, how = np.asarray(logits, dtype=np.float64).reshape(-1), Decision.read(decision)
    if len(how.offsets) not in (0, len(values)):
        raise ValueError(f"found {len(how.offsets)} offsets in a decision, expected none or {len(values)}, one a class")
    probabilities = softmax(values / how.temperature)
    chosen = _chosen(probabilities[None], how.threshold, how.offsets)[0]
    return Answer(probabilities=probabilities, uncalibrated=softmax(values), chosen=int(chosen))


def fit(logits: Logits, truth: Sequence[int], *, by: Metric) -> Decision:
    """Return the decision that a site's validation cases speak for.

    Args:
        logits: ``[N, K]``. truth: the class of every case. by: which scores are clearly better, and how clearly.
    """
    classes, counts = logits.shape[1], Counter(truth)
    cases = f"{len(truth)} validation cases of {len(counts)} class{'es' if len(counts) > 1 else ''}"
    if len(truth) < FEWEST or len(counts) < 2:
        return Decision(why=f"not fitted: {cases}, fewer than {FEWEST} of 2")
    truths, weights = np.asarray(truth), np.asarray(balanced_weights(truth))
    temperature = round(fitted_temperature(logits, truths), 6)
    probabilities = softmax(logits / temperature, axis=1)
    enough = [value for value in range(classes) if counts[value] >= FEWEST_OF_A_CLASS]
    threshold, offsets = 0.5, np.zeros(classes)
    if classes == 2 and len(enough) == 2:
        threshold = _fitted_threshold(probabilities[:, 1], truths, weights)
    elif classes > 2 and len(enough) > 1:
        offsets = _fitted_offsets(probabilities, truths, weights, enough)
    before = (_chosen(probabilities, 0.5, ()) == truths) * weights  # their means are balanced accuracy
    after = (_chosen(probabilities, threshold, tuple(offsets)) == truths) * weights
    moved = by.clearly_better(after.tolist(), before.tolist())
    found = Decision(
        temperature=temperature,
        threshold=threshold if moved else 0.5,  # never rounded: all probabilities may be smaller than its last place
        offsets=tuple(np.round(offsets, 4).tolist()) if moved and classes > 2 else (),
    )
    several = "offsets by class" if found.offsets else "no offsets"
    limits = f"threshold {found.threshold:.3g}" if classes == 2 else several
    return replace(found, why=f"temperature {found.temperature:.2f}, {limits}, fitted on {cases}")


def fitted_temperature(logits: Logits, truth: NDArray[np.integer]) -> float:
    """Return the temperature of the largest likelihood, with one case more, of every class alike."""
    cases, classes = logits.shape
    target = np.full((cases, classes), 1 / (cases + 1) / classes)
    target[np.arange(cases), truth] += cases / (cases + 1)

    def surprise(log_temperature: float) -> float:
        return float(-(target * log_softmax(logits / np.exp(log_temperature), axis=1)).sum())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(surprise, bounds=(low, high), method="bounded").x))


def _chosen(probabilities: Logits, threshold: float, offsets: Sequence[float]) -> NDArray[np.integer]:
    """Return the class of every case; ``[N]``."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] > threshold).astype(np.int64)
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    return np.asarray((logs + np.asarray(offsets) if len(offsets) else logs).argmax(axis=1))


def _fitted_threshold(positive: NDArray[np.float64], truth: NDArray[np.integer], weights: NDArray[np.float64]) -> float:
    """Return the middle of two neighbouring probabilities with the best score; of equal ones the nearest to 0.5."""
    values = np.unique(positive)
    tried = [0.5, *((values[1:] + values[:-1]) / 2)]
    scores = [(((positive > limit) == truth) * weights).mean() for limit in tried]
    return float(min(zip(tried, scores, strict=True), key=lambda one: (-round(one[1], 9), abs(one[0] - 0.5)))[0])


def _fitted_offsets(
    probabilities: Logits, truth: NDArray[np.integer], weights: NDArray[np.float64], enough: Sequence[int]
) -> NDArray[np.float64]:
    """Return an offset a class, found for one after another; of equal ones the smallest."""
    offsets = np.zeros(probabilities.shape[1])
    for _ in range(SWEEPS):
        for value in enough:
            tried = [np.where(np.arange(len(offsets)) == value, offset, offsets) for offset in OFFSETS]
            scores = [((_chosen(probabilities, 0.5, one.tolist()) == truth) * weights).mean() for one in tried]
            best = min(range(len(tried)), key=lambda place: (-round(scores[place], 9), abs(OFFSETS[place])))
            offsets = tried[best]
    return offsets
