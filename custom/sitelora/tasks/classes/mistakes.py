"""Which cases a site looks at: of those that were taken for another class, the ones whose own was least probable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sitelora.metric import Metric
from sitelora.run_result import CaseScore
from sitelora.tasks.classes.set_scores import PROBABILITY

MOST = 3


def most_certain_mistakes(cases: Sequence[CaseScore], primary: Metric) -> Mapping[str, CaseScore]:
    """Return at most three wrong cases, the most certain first; ties go by name."""
    wrong = [case for case in cases if case.mean(primary.name) == 0]
    ranked = sorted(wrong, key=lambda case: (_of_the_truth(case, primary), case.case))
    return {f"mistake {place}": case for place, case in enumerate(ranked[:MOST], start=1)}


def _of_the_truth(case: CaseScore, primary: Metric) -> float:
    """Return the probability of the class under which the case's primary score stands."""
    (values,) = (values for values in case.metrics.values() if values.get(primary.name) is not None)
    return values.get(PROBABILITY) or 0.0
