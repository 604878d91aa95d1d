"""Numbers of a comparison: means over seeds, intervals over patients, differences paired by case with tests.

Intervals draw patients, not cases, from values averaged over seeds (Efron 1979). Differences to the reference are
tested by Wilcoxon's signed-rank test over patients, and the p values of a table are corrected together (Holm 1979). An
interval says what other patients of the same site would change, the deviation over seeds what another start would.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import wilcoxon

from sitelora.comparison.many import ComparisonError
from sitelora.comparison.runs import REFERENCE, Run, Runs
from sitelora.evaluation.scores import FEWEST_PATIENTS, patient_interval

PERSONAL = "personal"
Key = TypeVar("Key", bound=Hashable)
Table = dict[str, float]
"""A value for every case."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric of one method at one site: mean over seeds and cases, deviation over seeds, interval over patients."""

    mean: float
    deviation: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A method minus the reference at one site, over the seeds that both have.

    Attributes:
        mean: over cases. interval: 95 % over patients. p: Holm's, over all differences of the table. seeds: how many.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float | None
    seeds: int

    @property
    def verdict(self) -> str:
        """``above``, ``below`` or neither; only an interval without zero and a corrected p below 0.05 tell apart."""
        if self.interval is None or self.p is None:
            return "too few patients to compare with"
        if self.p < 0.05 and self.interval[0] > 0:
            return "above"
        return "below" if self.p < 0.05 and self.interval[1] < 0 else "not told apart from"


def case_values(
    run: Run, site: str, kind: str, *, metric: str = "dice", label: str | None = None, tested_at: str | None = None
) -> Table | None:
    """Return a metric of every test case, the mean over labels if none is named; None where there is no model.

    Args:
        run: a run's file. site: where the model is from. kind: of model.
        tested_at: another site, for the personal model; by default the site itself.
    """
    own = run["sites"][site]
    block = own["models"].get(kind, {}) if tested_at in (None, site) else own.get("elsewhere", {}).get(tested_at, {})
    if "cases" not in block:
        return None
    chosen = [label] if label else list(block["metrics"])
    found: Table = {}
    for index, case in enumerate(block["cases"]):
        values = [block["metrics"][name].get(metric, [None] * (index + 1))[index] for name in chosen]
        defined = [value for value in values if value is not None]
        if defined:
            found[case] = statistics.fmean(defined)
    return found


def over_seeds(runs: Sequence[Run], site: str, kind: str, **which: str | None) -> list[Table]:
    """Return the cases' values of every seed that has the model."""
    tables = [case_values(run, site, kind, **which) for run in runs]  # type: ignore[arg-type]
    return [table for table in tables if table]


def averaged(tables: Sequence[Mapping[str, float]]) -> Table:
    """Return the mean over seeds of every case that all seeds have."""
    shared = set.intersection(*(set(table) for table in tables))
    return {case: statistics.fmean(table[case] for table in tables) for case in tables[0] if case in shared}


def score(runs: Sequence[Run], site: str, kind: str = PERSONAL, **which: str | None) -> Score | None:
    """Return a method's score at a site, or None where it has no such model."""
    tables = over_seeds(runs, site, kind, **which)
    if not tables:
        return None
    means = [statistics.fmean(table.values()) for table in tables]
    at = which.get("tested_at") or site
    return Score(
        mean=statistics.fmean(means),
        deviation=statistics.stdev(means) if len(means) > 1 else None,
        interval=interval(runs[0], at, averaged(tables)),
    )


def interval(run: Run, site: str, values: Mapping[str, float]) -> tuple[float, float] | None:
    """Return the 95 % interval over the patients of a site's test cases; None below three patients."""
    patients = run["sites"][site]["patients"]
    found = patient_interval(list(values.values()), [patients[case] for case in values])
    return (found[0], found[1]) if found else None


def differences(runs: Runs) -> dict[str, dict[str, Difference]]:
    """Return the differences to the reference by method and site, empty without a reference.

    Raises:
        ComparisonError: no seed in common, or other test cases.
    """
    if REFERENCE not in runs.by_method:
        return {}
    found = paired_differences(runs, [(method, REFERENCE) for method in runs.by_method if method != REFERENCE])
    return {method: by_site for (method, _), by_site in found.items()}


def paired_differences(runs: Runs, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Difference]]:
    """Return of every pair of methods the first minus the second, by site; p corrected over all that is asked for.

    Raises:
        ComparisonError: no seed in common, or other test cases.
    """
    raw = {(pair, site): _paired(runs, *pair, site) for pair in pairs for site in runs.sites}
    corrected = holm({key: _wilcoxon(runs.first, key[1], values) for key, (values, _) in raw.items()})
    found: dict[tuple[str, str], dict[str, Difference]] = {}
    for (pair, site), (values, seeds) in raw.items():
        found.setdefault(pair, {})[site] = Difference(
            mean=statistics.fmean(values.values()),
            interval=interval(runs.first, site, values),
            p=corrected[pair, site],
            seeds=seeds,
        )
    return found


def holm(values: Mapping[Key, float | None]) -> dict[Key, float | None]:
    """Return p values corrected for their number (Holm 1979); those that are None are not counted and stay."""
    corrected: dict[Key, float | None] = dict.fromkeys(values)
    present = sorted((value, key) for key, value in values.items() if value is not None)
    largest = 0.0
    for rank, (value, key) in enumerate(present):
        largest = max(largest, min(1.0, value * (len(present) - rank)))
        corrected[key] = largest
    return corrected


def _paired(runs: Runs, method: str, other: str, site: str) -> tuple[Table, int]:
    theirs = {run["seed"]: run for run in runs.by_method[other]}
    tables = []
    for run in runs.by_method[method]:
        if run["seed"] not in theirs:
            continue
        one, two = case_values(run, site, PERSONAL), case_values(theirs[run["seed"]], site, PERSONAL)
        if one is None or two is None or one.keys() != two.keys():
            raise ComparisonError(
                f"{method}, seed {run['seed']}: other test cases at {site} than {other} has; run it again"
            )
        tables.append({case: one[case] - two[case] for case in one})
    if not tables:
        raise ComparisonError(f"{method}: no seed in common with {other}; run both with the same seeds")
    return averaged(tables), len(tables)


def _wilcoxon(run: Run, site: str, values: Table) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test over patients' mean differences."""
    by_patient: dict[str, list[float]] = {}
    for case, value in values.items():
        by_patient.setdefault(run["sites"][site]["patients"][case], []).append(value)
    means = np.array([statistics.fmean(found) for found in by_patient.values()])
    if len(means) < FEWEST_PATIENTS:
        return None
    return float(wilcoxon(means).pvalue) if np.any(means != 0) else 1.0
