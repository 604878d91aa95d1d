"""Imbalance in the loss: cross-entropy under which the classes that a site has count alike (our choice).

A case weighs as much as its class is rare, within a bound, because a class of one case is not to rule every step.
torch's own weighted mean divides by the weights of the batch, so that in a batch of one class they do nothing; here a
batch's mean is over its cases, and the weights' mean over the site's cases is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sitelora.metric import balanced_weights

MOST = 10.0
"""Bound of a weight, before their mean over cases is made 1 again."""


def class_weights(truth: Sequence[int], classes: int, *, most: float = MOST) -> Tensor:
    """Return ``n / (C n_c)`` for every class c of the C that occur, ``[classes]`` fp32; their mean over cases is 1.

    A class that the site never saw has weight 0: label smoothing is not to draw its cases there.

    Args:
        truth: class of every training case of the site. classes: K. most: bound of a weight.

    Raises:
        ValueError: a class beyond K.
    """
    beyond = sorted(value for value in truth if not 0 <= value < classes)
    if beyond:
        raise ValueError(f"found a case of class {beyond[0]}, expected 0 to {classes - 1}: set classes to their number")
    of_class = dict(zip(truth, balanced_weights(truth), strict=True))
    weights = [min(most, of_class.get(value, 0.0)) for value in range(classes)]
    mean = sum(weights[value] for value in truth) / max(len(truth), 1)
    return torch.tensor([weight / (mean or 1.0) for weight in weights])


class BalancedCrossEntropy(nn.Module):
    """Mean over a batch's cases of their weighted cross-entropy.

    Args:
        truth: class of every training case of the site, from which the weights are. classes: K.
        label_smoothing: share of the truth that goes to all classes alike. most: bound of a weight.

    Raises:
        ValueError: a class beyond K.
    """

    def __init__(self, *, truth: Sequence[int], classes: int, label_smoothing: float = 0.0, most: float = MOST) -> None:
        super().__init__()
        self.weight: Tensor
        self.register_buffer("weight", class_weights(truth, classes, most=most))
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: ``[B, K]``. truth: classes, ``[B]`` or ``[B, 1]``.
        """
        each = cross_entropy(
            logits.float(),
            truth.reshape(-1).long(),
            weight=self.weight.to(logits.device),
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return each.mean()
