"""What one score is called, which way is better and how people read it: a record carries it, every page takes it."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from sitelora.typed_json import OMIT

ABSENT = "–"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score.

    Attributes:
        name: its key in records. title: for people. help: what it is, in whole sentences. unit: empty for a share.
        more_is_better: which way is better; nothing but `goodness` knows what follows from it.
        lowest, highest: what it can be; None where it has no such bound.
        decimals: places that people read.
        balanced: of many cases every label counts the same, whichever number of cases it has: the mean over labels of
            the mean over the cases that define it, exactly one label a case. Else every case counts the same.
    """

    name: str
    title: str
    help: str = ""
    unit: str = ""
    more_is_better: bool = True
    lowest: float | None = 0.0
    highest: float | None = 1.0
    decimals: int = 3
    balanced: bool = field(default=False, metadata=OMIT)

    @property
    def heading(self) -> str:
        """Title and unit, for the head of a column."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float | None, *, fewer: int = 0) -> str:
        """Return a value as people read it, with ``fewer`` places where there is little room."""
        return ABSENT if value is None else f"{value:.{max(0, self.decimals - fewer)}f}"

    def goodness(self, value: float) -> float:
        """Return a number of which more is better, whichever way the score goes."""
        return value if self.more_is_better else -value

    def better(self, one: float, other: float) -> bool:
        """Say whether one value is better than another."""
        return self.goodness(one) > self.goodness(other)

    def clearly_better(self, one: Sequence[float], other: Sequence[float]) -> bool:
        """Say whether one model's case scores are better than another's by more than the difference's standard error.

        Args:
            one, other: score of every case, in the same order. Where their numbers differ, as after a change of the
                data, and where there is one case, the means are compared as they are.
        """
        ahead = self.goodness(statistics.fmean(one)) - self.goodness(statistics.fmean(other))
        if len(one) != len(other) or len(one) == 1:
            return ahead > 0
        differences = [a - b for a, b in zip(one, other, strict=True)]
        return ahead > statistics.stdev(differences) / math.sqrt(len(differences))

    def quality(self, value: float) -> float | None:
        """Return where a value lies between the worst, 0, and the best, 1; None where the score has no such bounds."""
        if self.lowest is None or self.highest is None:
            return None
        share = (value - self.lowest) / (self.highest - self.lowest)
        return share if self.more_is_better else 1 - share

    def can_be(self, value: float) -> bool:
        """Say whether a value lies within the bounds that the score has."""
        below = self.lowest is not None and value < self.lowest
        return not below and not (self.highest is not None and value > self.highest)

    def limits(self, values: Sequence[float] = ()) -> tuple[float, float]:
        """Return the ends of an axis: the bounds, or where there is none, the lowest and highest of some values."""
        low = self.lowest if self.lowest is not None else min(values, default=0.0)
        high = self.highest if self.highest is not None else max(values, default=low + 1)
        return low, high if high > low else low + 1


UNKNOWN = Metric(name="score", title="Score")
"""Of a record that does not say what its scores are."""


def primary_of(name: str, metrics: Sequence[Metric]) -> Metric:
    """Return the metric of a name, or one of which nothing is known."""
    return next((metric for metric in metrics if metric.name == name), UNKNOWN)


def balanced_weights(labels: Sequence[Hashable]) -> list[float]:
    """Return a weight a case, mean 1, under which labels that occur count the same: ``n / (C n_c)`` for C of them."""
    counts = Counter(labels)
    return [len(labels) / (len(counts) * counts[label]) for label in labels]
