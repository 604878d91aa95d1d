"""The weights of a site's classes, and a loss in which they hold in batches of one class too."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from sitelora.tasks.classes.loss import BalancedCrossEntropy, class_weights


def test_classes_that_occur_count_alike_and_a_case_one_on_average() -> None:
    truth = [0] * 6 + [1] * 3 + [3]
    weights = class_weights(truth, 4)
    sums = [weights[value] * truth.count(value) for value in (0, 1, 3)]
    assert torch.tensor(sums).allclose(torch.tensor(10 / 3))
    assert weights[truth].mean() == pytest.approx(1.0)
    assert weights[2] == 0


def test_a_class_alone_is_plain_cross_entropy() -> None:
    assert class_weights([1, 1, 1], 2).tolist() == [0.0, 1.0]
    logits, truth = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.ones(5, dtype=torch.long)
    assert BalancedCrossEntropy(truth=[1], classes=2)(logits, truth) == cross_entropy(logits, truth)


def test_a_class_of_one_case_is_bounded() -> None:
    truth = [0] * 999 + [1]
    free, bound = (class_weights(truth, 2, most=most) for most in (1e9, 10.0))
    assert free[1] / free[0] == pytest.approx(999)
    assert bound[1] / bound[0] == pytest.approx(10 / (1000 / (2 * 999)), rel=1e-4)
    assert bound[truth].mean() == pytest.approx(1.0)


def test_the_mean_over_batches_is_the_balanced_one_whatever_a_batch_holds() -> None:
    logits = torch.randn(12, 2, generator=torch.Generator().manual_seed(1))
    truth = torch.tensor([0] * 9 + [1] * 3)
    loss = BalancedCrossEntropy(truth=truth.tolist(), classes=2)
    by_case = cross_entropy(logits, truth, reduction="none")
    balanced = (by_case[:9].mean() + by_case[9:].mean()) / 2
    batches = [loss(logits[at : at + 3], truth[at : at + 3, None].float()) for at in range(0, 12, 3)]
    assert torch.stack(batches).mean().item() == pytest.approx(balanced.item())


def test_smoothing_draws_no_case_to_a_class_that_the_site_never_saw() -> None:
    logits = torch.zeros(4, 3, requires_grad=True)
    BalancedCrossEntropy(truth=[0, 1], classes=3, label_smoothing=0.3)(logits, torch.tensor([0, 1, 0, 1])).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 2] > 0).all(), "a step lowers it"


def test_a_class_beyond_the_number_is_refused() -> None:
    with pytest.raises(ValueError, match="case of class 2, expected 0 to 1"):
        class_weights([0, 1, 2], 2)
