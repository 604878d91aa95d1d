"""Balanced accuracy of a bundle that runs by itself: as a federation scores the same answers."""

from __future__ import annotations

import pytest
import torch
from ignite.exceptions import NotComputableError
from torch import Tensor

from sitelora.tasks.classes.balanced_accuracy import BalancedAccuracy

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
TRUTH = torch.tensor([[0], [0], [0], [1]])


def measured(metric: BalancedAccuracy, logits: Tensor = LOGITS, truth: Tensor = TRUTH) -> float:
    metric.reset()
    for place in range(len(logits)):
        metric.update((logits[place : place + 1], truth[place]))
    return metric.compute()


def test_a_class_without_a_case_has_no_part_in_it() -> None:
    metric = BalancedAccuracy()
    assert measured(metric) == pytest.approx((2 / 3 + 0) / 2)
    assert measured(metric, LOGITS[:1], TRUTH[:1]) == 1.0  # the cases before are forgotten


def test_the_decision_in_a_models_file_counts() -> None:
    assert measured(BalancedAccuracy(decision={"offsets": [0.0, 3.0, 0.0]})) == pytest.approx((0 + 1) / 2)


def test_no_case_is_no_score() -> None:
    metric = BalancedAccuracy()
    with pytest.raises(NotComputableError):
        metric.compute()
