"""Which cases a site looks at: the best, the median and the worst by the task's primary score."""

from __future__ import annotations

import pytest

from sitelora.metric import Metric
from sitelora.run_result import CaseScore
from sitelora.task import best_median_worst
from sitelora.tasks.segmentation import DICE

DISTANCE = Metric(name="mm", title="Distance", more_is_better=False, highest=None)


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ([], {}),
        ([0.5], {"best": 0.5}),
        ([0.5, 0.7], {"best": 0.7, "worst": 0.5}),
        ([0.2, 0.9, 0.6], {"best": 0.9, "median": 0.6, "worst": 0.2}),
        ([0.2, 0.9, 0.6, 0.4], {"best": 0.9, "median": 0.4, "worst": 0.2}),
    ],
)
def test_best_median_and_worst_case(values: list[float], chosen: dict[str, float]) -> None:
    assert selected(DICE, values) == chosen


def test_of_a_distance_the_best_is_the_smallest() -> None:
    assert selected(DISTANCE, [4.0, 1.0, 9.0, 6.0]) == {"best": 1.0, "median": 6.0, "worst": 9.0}


def selected(metric: Metric, values: list[float]) -> dict[str, float]:
    cases = [CaseScore(case=f"c{i}", patient="p", metrics={"x": {metric.name: v}}) for i, v in enumerate(values)]
    return {which: case.mean(metric.name) for which, case in best_median_worst(cases, metric).items()}
