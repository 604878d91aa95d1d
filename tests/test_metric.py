"""A metric says which way is better, how far a value is from best and worst, and how people read it."""

import math

import pytest

from sitelora.metric import Metric
from sitelora.tasks.segmentation import DICE, HD95
from sitelora.typed_json import from_json, to_json

LOSS = Metric(name="loss", title="Loss", more_is_better=False, highest=2.0)


@pytest.mark.parametrize(("metric", "one", "other"), [(DICE, 0.9, 0.8), (HD95[0], 2.0, 3.0), (LOSS, 0.1, 0.2)])
def test_better_is_the_metrics_own_direction(metric: Metric, one: float, other: float) -> None:
    assert metric.better(one, other)
    assert not metric.better(other, one)
    assert not metric.better(one, one)
    assert max(one, other, key=metric.goodness) == one


def test_quality_runs_from_the_worst_to_the_best() -> None:
    assert (DICE.quality(0.25), LOSS.quality(0.5), LOSS.quality(2.0)) == (0.25, 0.75, 0.0)
    assert HD95[0].quality(3.0) is None


def test_an_axis_ends_at_the_bounds_or_at_what_was_found() -> None:
    assert DICE.limits([0.4, 0.5]) == (0.0, 1.0)
    assert HD95[0].limits([3.0, 8.0]) == (0.0, 8.0)
    low, high = Metric(name="x", title="X", lowest=None, highest=None).limits([2.0])
    assert low < high
    assert all(map(math.isfinite, (low, high)))


def test_people_read_it_with_its_own_places_and_unit() -> None:
    assert (DICE.text(0.8125), DICE.text(None), HD95[0].text(3.04)) == ("0.812", "–", "3.0")
    assert (DICE.text(0.8125, fewer=1), HD95[0].text(3.04, fewer=3)) == ("0.81", "3")
    assert [metric.heading for metric in (DICE, *HD95)] == ["Dice", "HD95 (mm)", "HD95 (pixels)"]


@pytest.mark.parametrize("metric", [DICE, *HD95, LOSS])
def test_a_record_gives_back_the_same_metric(metric: Metric) -> None:
    assert from_json(Metric, to_json(metric)) == metric
