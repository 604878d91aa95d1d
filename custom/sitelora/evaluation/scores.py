"""Scores of many cases: mean, median, worst, and an interval from a bootstrap over patients (Efron 1979).

Where labels count the same and not cases (`Metric.balanced`), a case's score is weighted by how rare its label is, so
that the plain mean over cases is the mean over labels: whoever pairs two models case by case need not know of it.

Patients are drawn, not cases, because two cases of one patient are not two independent pieces of evidence.
Percentile intervals of few patients are too narrow (our choice: below three patients there is none); read
them together with the number of patients.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sitelora.metric import Metric, balanced_weights
from sitelora.run_result import CaseScore
from sitelora.task import ScoreSet
from sitelora.typed_json import to_json

FEWEST_PATIENTS = 3
MOST_AT_ONCE = 2_000_000
"""Weights of draws and cases that are held at a time."""


def summarise(
    cases: Sequence[CaseScore],
    primary: Metric,
    *,
    score_set: ScoreSet | None = None,
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
        ``score`` (the primary one, mean over cases or over labels), ``score_median`` and ``score_worst`` of the cases
        (not where labels count the same: a case is then right or wrong), ``score_ci95`` (``[low, high]`` or ``None``),
        ``patient_count``, ``case_count``, ``labels`` (label to metric to mean over the cases that define it),
        ``set_scores`` and ``set_ci95`` where there are any, and ``cases``.

    Raises:
        ValueError: no case was given, or a case has no primary score.
    """
    if not cases:
        raise ValueError("no case to summarise, expected at least one: check the test list of dataset.json")
    ordered = sorted(cases, key=lambda score: (score.patient, score.case))
    values = case_scores(ordered, primary)
    patients = [case.patient for case in ordered]
    strata = labels_of(ordered, primary) if primary.balanced else None
    spread = {"score_median": statistics.median(values), "score_worst": min(values, key=primary.goodness)}
    return {
        "score": statistics.fmean(values),
        **({} if primary.balanced else spread),
        "score_ci95": sites_interval([SiteCases(values, patients, strata)], seed=seed, resamples=resamples),
        "patient_count": len(set(patients)),
        "case_count": len(ordered),
        "labels": _label_means(ordered),
        **(_set_scores(ordered, score_set, seed=seed, resamples=resamples) if score_set is not None else {}),
        "cases": to_json(ordered),
    }


def case_scores(cases: Sequence[CaseScore], primary: Metric) -> list[float]:
    """Return a number a case, of which the plain mean is the score of them all.

    Raises:
        ValueError: a case has no primary score, or where labels count the same, not exactly one label with one.
    """
    values = [case.mean(primary.name) for case in cases]
    for case, value in zip(cases, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"case {case.case} has no finite {primary.title}, expected one for at least one label")
    if not primary.balanced:
        return values
    weights = balanced_weights(labels_of(cases, primary))
    return [value * weight for value, weight in zip(values, weights, strict=True)]


def labels_of(cases: Sequence[CaseScore], primary: Metric) -> list[str]:
    """Return the one label of every case under which the primary score stands.

    Raises:
        ValueError: a case with none or with several.
    """
    found = []
    for case in cases:
        labels = [label for label, metrics in case.metrics.items() if metrics.get(primary.name) is not None]
        if len(labels) != 1:
            raise ValueError(f"case {case.case} has a {primary.title} for {len(labels)} labels, expected one")
        found += labels
    return found


class SiteCases(NamedTuple):
    """The cases of one site: of every case a finite number, its patient and, where labels count the same, its label."""

    values: Sequence[float]
    patients: Sequence[str]
    strata: Sequence[str] | None = None


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
    return sites_interval([SiteCases(values, patients)], seed=seed, resamples=resamples)


def sites_interval(sites: Sequence[SiteCases], *, seed: int = 0, resamples: int = 2000) -> list[float] | None:
    """Return the 95 % percentile interval of the mean of sites' means; every draw takes as many patients of each site.

    Where labels count the same, they do so in every draw; a label that a draw has no case of has no part in it.

    Args:
        sites: of every site, its cases.
        seed: seed of the draws.
        resamples: number of draws.

    Returns:
        ``[low, high]``, or ``None`` where a site has fewer than three patients.

    Raises:
        ValueError: a site's sequences differ in length.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for site in sites:
        if len(site.values) != len(site.patients):
            raise ValueError(
                f"{len(site.values)} values for {len(site.patients)} patients, expected one patient a value"
            )
        names = sorted(set(site.patients))
        if len(names) < FEWEST_PATIENTS:
            return None
        drawn = rng.integers(len(names), size=(resamples, len(names)))
        means += _drawn_means(site, names, drawn)
    return _percentiles(means / len(sites))


def _drawn_means(site: SiteCases, names: Sequence[str], drawn: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return a site's mean in every draw ``[R]`` of patients ``[R, P]``, strata in the shares that they have in all."""
    row = {name: index for index, name in enumerate(names)}
    strata = site.strata if site.strata is not None else [""] * len(site.values)
    means, shares = np.zeros(len(drawn)), np.zeros(len(drawn))
    for stratum in sorted(set(strata)):
        sums, counts = np.zeros(len(names)), np.zeros(len(names))
        for value, patient, of in zip(site.values, site.patients, strata, strict=True):
            if of == stratum:
                sums[row[patient]] += value
                counts[row[patient]] += 1
        total = counts[drawn].sum(axis=1)
        # a weighted score times its stratum's share of the cases is the stratum's own mean, divided by their number
        mean = sums[drawn].sum(axis=1) / np.maximum(total, 1) * (strata.count(stratum) / len(strata))
        means += np.where(total > 0, mean, 0.0)
        shares += total > 0
    return means * (len(set(strata)) / shares)


def _set_scores(cases: Sequence[CaseScore], score_set: ScoreSet, *, seed: int, resamples: int) -> dict[str, Any]:
    """Return ``set_scores`` and, from three patients on, ``set_ci95``.

    Draws in which a score is undefined are left out; an interval needs half of the draws (our choice).
    """
    values = score_set(cases, np.ones((1, len(cases))))
    if not values:
        return {}
    told: dict[str, Any] = {"set_scores": {name: _finite(value[0]) for name, value in values.items()}}
    names = sorted({case.patient for case in cases})
    if len(names) < FEWEST_PATIENTS:
        return told
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    patient = np.searchsorted(names, [case.patient for case in cases])
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    for some in np.array_split(drawn, max(1, resamples * len(cases) // MOST_AT_ONCE)):
        times = np.stack([np.bincount(draw, minlength=len(names)) for draw in some])
        for name, value in score_set(cases, times[:, patient].astype(np.float64)).items():
            found[name].append(value)
    intervals = {}
    for name, parts in found.items():
        defined = np.concatenate(parts)
        defined = defined[np.isfinite(defined)]
        enough = told["set_scores"][name] is not None and 2 * len(defined) >= resamples
        intervals[name] = _percentiles(defined) if enough else None
    return {**told, "set_ci95": intervals}


def _percentiles(values: NDArray[np.float64]) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


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
