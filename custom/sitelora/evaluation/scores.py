"""Scores of many cases: mean, median, worst, and an interval from a bootstrap over patients (Efron 1979).

Patients are drawn, not cases, because two cases of one patient are not two independent pieces of evidence.
Percentile intervals of few patients are too narrow (our choice: below three patients there is none); read
them together with the number of patients.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sitelora.metric import Metric
from sitelora.run_result import CaseScore
from sitelora.typed_json import to_json

FEWEST_PATIENTS = 3


def summarise(
    cases: Sequence[CaseScore],
    primary: Metric,
    *,
    score_set: Callable[[Sequence[CaseScore]], Mapping[str, float | None]] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Return one model's block of an evaluation file: the summary and the cases, ready for ``json.dump``.

    Args:
        cases: the scored cases, in any order; the result does not depend on it.
        primary: the score that a case is judged by.
        score_set: of a task, what only many cases together have; it is given them in their order.
        seed: seed of the bootstrap.
        resamples: number of bootstrap draws.

    Returns:
        ``score`` (the primary one, mean over cases), ``score_median``, ``score_worst``, ``score_ci95`` (``[low, high]``
        or ``None``), ``patient_count``, ``case_count``, ``labels`` (label to metric to mean over the cases that
        define it), ``set_scores`` where there are any, and ``cases``.

    Raises:
        ValueError: no case was given, or a case has no primary score.
    """
    if not cases:
        raise ValueError("no case to summarise, expected at least one: check the test list of dataset.json")
    ordered = sorted(cases, key=lambda score: (score.patient, score.case))
    values = [case.mean(primary.name) for case in ordered]
    for case, value in zip(ordered, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"case {case.case} has no finite {primary.title}, expected one for at least one label")
    patients = [case.patient for case in ordered]
    of_set = score_set(ordered) if score_set is not None else {}
    return {
        "score": statistics.fmean(values),
        "score_median": statistics.median(values),
        "score_worst": min(values, key=primary.goodness),
        "score_ci95": patient_interval(values, patients, seed=seed, resamples=resamples),
        "patient_count": len(set(patients)),
        "case_count": len(ordered),
        "labels": _label_means(ordered),
        **({"set_scores": dict(of_set)} if of_set else {}),
        "cases": to_json(ordered),
    }


def patient_interval(
    values: Sequence[float], patients: Sequence[str], *, seed: int = 0, resamples: int = 2000
) -> list[float] | None:
    """Return the 95 % percentile interval of the mean over cases when patients are drawn with replacement.

    Args:
        values: one finite number a case.
        patients: the patient of every case.
        seed: seed of the draws.
        resamples: number of draws.

    Returns:
        ``[low, high]``, or ``None`` below three patients.

    Raises:
        ValueError: the two sequences differ in length.
    """
    return sites_interval([(values, patients)], seed=seed, resamples=resamples)


def sites_interval(
    sites: Sequence[tuple[Sequence[float], Sequence[str]]], *, seed: int = 0, resamples: int = 2000
) -> list[float] | None:
    """Return the 95 % percentile interval of the mean of sites' means; every draw takes as many patients of each site.

    Args:
        sites: of every site, one finite number a case and the patient of every case.
        seed: seed of the draws.
        resamples: number of draws.

    Returns:
        ``[low, high]``, or ``None`` where a site has fewer than three patients.

    Raises:
        ValueError: a site's two sequences differ in length.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values, patients in sites:
        if len(values) != len(patients):
            raise ValueError(f"{len(values)} values for {len(patients)} patients, expected one patient a value")
        names = sorted(set(patients))
        if len(names) < FEWEST_PATIENTS:
            return None
        row = {name: index for index, name in enumerate(names)}
        sums, counts = np.zeros(len(names)), np.zeros(len(names))
        for value, patient in zip(values, patients, strict=True):
            sums[row[patient]] += value
            counts[row[patient]] += 1
        drawn = rng.integers(len(names), size=(resamples, len(names)))
        means += sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means / len(sites), [2.5, 97.5])
    return [float(low), float(high)]


def _label_means(cases: Sequence[CaseScore]) -> dict[str, dict[str, float | None]]:
    """Return every label's mean of every metric over the cases that define it (``None`` where none does)."""
    gathered: dict[str, dict[str, list[float | None]]] = {}
    for score in cases:
        for label, values in score.metrics.items():
            for metric, value in values.items():
                gathered.setdefault(label, {}).setdefault(metric, []).append(value)
    means = {label: {m: _mean(v) for m, v in metrics.items()} for label, metrics in gathered.items()}
    return {label: {m: v if math.isfinite(v) else None for m, v in metrics.items()} for label, metrics in means.items()}


def _mean(values: Sequence[float | None]) -> float:
    """Return the mean of the defined values, NaN when there is none."""
    defined = [value for value in values if value is not None]
    return statistics.fmean(defined) if defined else math.nan
