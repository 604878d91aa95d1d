"""Balanced accuracy where a bundle runs by itself, as a federation scores it: an absent class has no part in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from torch import Tensor

from sitelora.tasks.classes.decision import decide


class BalancedAccuracy(Metric):
    """Mean over the classes that occur of the share of their cases that is classified rightly.

    ignite's own mean recall counts a class without a case as one of which nothing is found.

    Args:
        output_transform: from an engine's output to logits and true classes.
        decision: as a model's file has it; by default the likeliest class is chosen.
    """

    def __init__(
        self, output_transform: Callable[[Any], Any] = lambda output: output, decision: Mapping[str, Any] | None = None
    ) -> None:
        self._decision = dict(decision or {})
        super().__init__(output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget all cases."""
        self._cases: Counter[int] = Counter()
        self._right: Counter[int] = Counter()

    @reinit__is_reduced
    def update(self, output: tuple[Tensor, Tensor]) -> None:
        """Take the logits ``[B, K]`` and true classes ``[B]`` of some cases."""
        logits, truths = output
        for values, truth in zip(logits.detach().cpu(), truths.reshape(-1).tolist(), strict=True):
            self._cases[truth] += 1
            self._right[truth] += decide(values, self._decision).chosen == truth

    def compute(self) -> float:
        """Return it.

        Raises:
            NotComputableError: there was no case.
        """
        if not self._cases:
            raise NotComputableError("balanced accuracy: no case")
        return fmean(self._right[value] / count for value, count in self._cases.items())
