"""Numbers of a comparison: means over seeds, intervals over patients, differences paired by case with tests.

Intervals draw patients, not cases, from values averaged over seeds (Efron 1979). Differences to the reference are
tested by Wilcoxon's signed-rank test over patients, and the p values of a table are corrected together (Holm 1979). An
interval says what other patients of the same site would change, the deviation over seeds what another start would.

Over all sites every site counts the same: the mean of the sites' means, with patients drawn within each. The test
is of that same mean, under random signs of the patients' differences (Fisher 1935), because signed ranks would weigh
sites by their patients; four patients a site could never be told apart one site at a time. Our choice.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import permutation_test, wilcoxon

from sitelora.comparison.run_file import ComparisonError, primary_metric
from sitelora.comparison.runs import REFERENCE, Run, Runs
from sitelora.evaluation.scores import FEWEST_PATIENTS, SiteCases, sites_interval
from sitelora.metric import balanced_weights

PERSONAL, ALL_SITES = "personal", "all sites"
TOO_FEW = "too few patients for a test"
FEWEST_TESTED = 6
"""Patients of one site: with fewer no outcome of the test has p below 0.05, and it would only cost the others power."""
FLIPS = 20_000
"""Most signs that the test over all sites draws; up to 14 patients it tries all. The smallest p is one in that many."""
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
    """A method minus the reference at one site or over all, over the seeds that both have.

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
            return TOO_FEW
        if self.p < 0.05 and self.interval[0] > 0:
            return "above"
        return "below" if self.p < 0.05 and self.interval[1] < 0 else "not told apart from"


def case_values(
    run: Run, site: str, kind: str, *, metric: str | None = None, label: str | None = None, tested_at: str | None = None
) -> Table | None:
    """Return a metric of every test case, the mean over labels if none is named; None where there is no model.

    Where labels count the same and not cases, the primary one is weighted as in `evaluation.scores.case_scores`, so
    that the mean over cases is the score.

    Args:
        run: a run's file. site: where the model is from. kind: of model. metric: its name; by default the primary one.
        tested_at: another site, for the personal model; by default the site itself.
    """
    own = run["sites"][site]
    block = own["models"].get(kind, {}) if tested_at in (None, site) else own.get("elsewhere", {}).get(tested_at, {})
    if "cases" not in block:
        return None
    chosen = [label] if label else list(block["metrics"])
    found: Table = {}
    for index, case in enumerate(block["cases"]):
        values = [block["metrics"][name].get(metric or run["primary"], [None] * (index + 1))[index] for name in chosen]
        defined = [value for value in values if value is not None]
        if defined:
            found[case] = statistics.fmean(defined)
    strata = _strata(run, tested_at or site) if not metric and not label else None
    if strata is None:
        return found
    weights = balanced_weights([strata[case] for case in found])
    return {case: value * weight for (case, value), weight in zip(found.items(), weights, strict=True)}


def _strata(run: Run, site: str) -> dict[str, str] | None:
    """Return the label of every test case of a site, where labels count the same and not cases."""
    if not primary_metric(run).balanced:
        return None
    block = next(block for block in run["sites"][site]["models"].values() if "cases" in block)
    found: dict[str, str] = {}
    for label, metrics in block["metrics"].items():
        of_label = zip(block["cases"], metrics[run["primary"]], strict=True)
        found.update({case: label for case, value in of_label if value is not None})
    return found


def over_seeds(runs: Sequence[Run], site: str, kind: str, **which: str | None) -> list[Table]:
    """Return the cases' values of every seed that has the model."""
    tables = [case_values(run, site, kind, **which) for run in runs]
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
    primary = not which.get("metric") and not which.get("label")
    return _score(runs[0], {which.get("tested_at") or site: tables}, primary=primary)


def set_score(runs: Sequence[Run], site: str, name: str, kind: str = PERSONAL) -> Score | None:
    """Return what a method's cases at a site have together; the interval is that of the first seed, over patients."""
    blocks = [run["sites"][site]["models"].get(kind, {}) for run in runs]
    found = [value for block in blocks if (value := block.get("set_scores", {}).get(name)) is not None]
    if not found:
        return None
    low_high = blocks[0]["set_ci95"].get(name) if "set_ci95" in blocks[0] else None
    return Score(
        mean=statistics.fmean(found),
        deviation=statistics.stdev(found) if len(found) > 1 else None,
        interval=(low_high[0], low_high[1]) if low_high else None,
    )


def overall(runs: Sequence[Run], sites: Sequence[str]) -> Score | None:
    """Return the mean over sites of a method's personal score, or None where a site has no such model."""
    tables = {site: over_seeds(runs, site, PERSONAL) for site in sites}
    return _score(runs[0], tables) if all(tables.values()) else None


def _score(run: Run, by_site: Mapping[str, Sequence[Table]], *, primary: bool = True) -> Score:
    """Return the score of the sites' cases, every seed a table; each site counts the same."""
    means = [
        statistics.fmean(statistics.fmean(table.values()) for table in seed)
        for seed in zip(*by_site.values(), strict=True)
    ]
    return Score(
        mean=statistics.fmean(means),
        deviation=statistics.stdev(means) if len(means) > 1 else None,
        interval=interval(run, {site: averaged(tables) for site, tables in by_site.items()}, primary=primary),
    )


def interval(
    run: Run, by_site: Mapping[str, Mapping[str, float]], *, primary: bool = True
) -> tuple[float, float] | None:
    """Return the 95 % interval over the patients of the sites' test cases; None below three patients at a site."""
    cases = []
    for site, values in by_site.items():
        patients, strata = run["sites"][site]["patients"], _strata(run, site) if primary else None
        labels = None if strata is None else [strata[case] for case in values]
        cases.append(SiteCases(list(values.values()), [patients[case] for case in values], labels))
    found = sites_interval(cases)
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
    """Return of every pair of methods the first minus the second, by site and over ``ALL_SITES``.

    p is corrected over all that is asked for.

    Raises:
        ComparisonError: no seed in common, or other test cases.
    """
    whole = {ALL_SITES: runs.sites} if len(runs.sites) > 1 else {}
    where: dict[str, Sequence[str]] = {site: [site] for site in runs.sites} | whole
    raw = {(pair, site): _paired(runs, *pair, site) for pair in pairs for site in runs.sites}
    tables = {(pair, at): {s: raw[pair, s][0] for s in sites} for pair in pairs for at, sites in where.items()}
    corrected = holm(
        {
            key: (sign_flips if key[1] == ALL_SITES else _wilcoxon)(runs.first, by_site)
            for key, by_site in tables.items()
        }
    )
    found: dict[tuple[str, str], dict[str, Difference]] = {pair: {} for pair in pairs}
    for (pair, at), by_site in tables.items():
        found[pair][at] = Difference(
            mean=statistics.fmean(statistics.fmean(values.values()) for values in by_site.values()),
            interval=interval(runs.first, by_site),
            p=corrected[pair, at],
            seeds=min(raw[pair, site][1] for site in by_site),
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


def _wilcoxon(run: Run, by_site: Mapping[str, Table]) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test over one site's patients' mean differences, if enough."""
    ((site, values),) = by_site.items()
    means = np.array([statistics.fmean(found) for found in _by_patient(run, site, values)])
    if len(means) < FEWEST_TESTED:
        return None
    return float(wilcoxon(means).pvalue) if np.any(means != 0) else 1.0


def sign_flips(run: Run, by_site: Mapping[str, Table]) -> float | None:
    """Return the two-sided p of the mean of the sites' means under random signs of the patients' differences."""
    parts: list[float] = []
    for site, values in by_site.items():
        patients = _by_patient(run, site, values)
        if len(patients) < FEWEST_PATIENTS:
            return None
        parts += [sum(found) / len(values) / len(by_site) for found in patients]
    found = permutation_test(
        (np.array(parts),),  # of one sample, SciPy changes the signs
        lambda signed, axis: np.abs(signed.sum(axis)).round(12),  # what is as far but for rounding is as far
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=FLIPS,
        random_state=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _by_patient(run: Run, site: str, values: Table) -> list[list[float]]:
    """Return the values of every patient of a site's cases."""
    found: dict[str, list[float]] = {}
    for case, value in values.items():
        found.setdefault(run["sites"][site]["patients"][case], []).append(value)
    return list(found.values())
