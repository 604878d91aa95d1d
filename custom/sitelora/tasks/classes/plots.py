"""What is drawn of many cases with one class each: reliability and ROC curves, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sitelora.plot import Counts, Curves, Line, Plot
from sitelora.run_result import CaseScore
from sitelora.tasks.classes.set_scores import BINS, Answers, bin_of, confusion, in_order

MOST_CLASSES = 6
"""ROC curves in one plot: of more classes those with the most cases are drawn (our choice)."""


def plots(cases: Sequence[CaseScore]) -> Sequence[Plot]:
    """Return the plots that the cases allow: no ROC curve where there is one class alone."""
    answers = Answers.of(cases)
    if answers is None:
        return ()
    lines = _roc(answers)
    roc = Curves(
        name="roc",
        title="ROC",
        reading="for every limit, the share of a class's cases that is found against the share of the others that is "
        "taken for it; the further to the upper left, the better.",
        x="taken for it though another",
        y="found",
        lines=lines,
        diagonal="chance",
    )
    return [_reliability(answers), *([roc] if lines else []), _counts(answers)]


def _reliability(answers: Answers) -> Curves:
    lines = [
        _bins(answers, "calibrated", answers.probability),
        _bins(answers, "uncalibrated", answers.uncalibrated),
    ]
    if np.allclose(answers.probability, answers.uncalibrated):
        lines = [Line(name="uncalibrated", x=lines[1].x, y=lines[1].y, cases=lines[1].cases)]
    two = len(answers.names) == 2
    return Curves(
        name="reliability",
        title="Reliability",
        reading="cases in ten bins of the probability that they were given; on the diagonal, of those given 70 % seven "
        "in ten are so. Larger points stand for more cases.",
        x=f"probability of {answers.names[1]}" if two else "probability of the likeliest class",
        y="came true",
        lines=lines,
        diagonal="as sure as right",
    )


def _bins(answers: Answers, name: str, probability: NDArray[np.float64]) -> Line:
    sure, right = answers.sure_and_right(probability)
    places = bin_of(sure)
    there = [place for place in range(BINS) if (places == place).any()]
    return Line(
        name=name,
        x=[float(sure[places == place].mean()) for place in there],
        y=[float(right[places == place].mean()) for place in there],
        cases=[int((places == place).sum()) for place in there],
    )


def _roc(answers: Answers) -> list[Line]:
    """Return a curve for the second of two classes, or for each of the classes with the most cases."""
    counts = np.bincount(answers.truth, minlength=len(answers.names))
    if (counts > 0).sum() < 2:
        return []
    common = sorted(range(len(counts)), key=lambda value: (-counts[value], value))[:MOST_CLASSES]
    drawn = [1] if len(counts) == 2 else [value for value in sorted(common) if counts[value]]
    return [_curve(answers, value) for value in drawn]


def _curve(answers: Answers, value: int) -> Line:
    """Return the corners of a curve, from no case found to all; equal probabilities are one step."""
    scores, own = in_order(answers.probability[:, value]), answers.truth == value
    limits = np.unique(scores)[::-1]
    return Line(
        name=answers.names[value],
        x=[0.0, *(float((scores[~own] >= limit).mean()) for limit in limits)],
        y=[0.0, *(float((scores[own] >= limit).mean()) for limit in limits)],
    )


def _counts(answers: Answers) -> Counts:
    matrix = confusion(answers, np.ones((1, len(answers.truth))))[0]
    return Counts(
        name="confusion",
        title="True and chosen class",
        reading="cases by true class (row) and chosen class (column); the diagonal is right.",
        rows="true",
        columns="chosen",
        names=answers.names,
        counts=[[int(cell) for cell in row] for row in matrix],
    )
