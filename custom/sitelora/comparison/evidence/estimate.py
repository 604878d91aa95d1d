"""A mean difference with its uncertainty over patients and over seeds, and the tests of it.

The variance of the mean has two parts, added: over patients within each site, of values averaged over seeds (a
stratified mean, every site counts the same; Cochran 1977, 5.3; cases of one patient count together), and over seeds, of
the whole mean of each. Interval and tests are Student's t with Satterthwaite's (1946) degrees of freedom. The first
part holds some of the second, so the sum is a little wide rather than narrow.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student

Cases = Mapping[str, float]
"""A value by case."""
FEWEST_SEEDS = 2


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One seed's values.

    Args:
        sites: value of every case, by site. fold: seeds of one fold have the same cases.
    """

    sites: Mapping[str, Cases]
    fold: int = 0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over sites of the mean over cases.

    Attributes:
        mean: of all seeds. error: its standard error; None where there is no telling (one seed, or one patient of one
            site). freedom: degrees of freedom. seeds, patients: how many. sites: mean by site.
    """

    mean: float
    error: float | None
    freedom: float
    seeds: int
    patients: int
    sites: Mapping[str, float]

    def interval(self, alpha: float = 0.05) -> tuple[float, float] | None:
        """Return the 1 - alpha interval; None where there is no error."""
        if self.error is None:
            return None
        reach = float(student.ppf(1 - alpha / 2, self.freedom)) * self.error if self.error else 0.0
        return self.mean - reach, self.mean + reach

    def differs(self) -> float | None:
        """Return the two-sided p of no difference."""
        if self.error is None:
            return None
        if not self.error:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * student.sf(abs(self.mean) / self.error, self.freedom))

    def told_apart(self) -> bool:
        """Say whether the 95 % interval does not hold nothing; no where there is none."""
        bounds = self.interval()
        return bounds is not None and (bounds[0] > 0 or bounds[1] < 0)

    def unsure(self, settled: float) -> bool:
        """Say whether it is below two standard errors, and these are above what counts as settled."""
        return self.error is not None and abs(self.mean) < 2 * self.error > settled

    def equals(self, margin: float) -> float | None:
        """Return the p of two one-sided tests (Schuirmann 1987) that the difference is within the margin."""
        if self.error is None:
            return None
        if not self.error:
            return 0.0 if abs(self.mean) < margin else 1.0
        return float(student.sf((margin - abs(self.mean)) / self.error, self.freedom))


def estimate(seeds: Sequence[Seed], patients: Mapping[str, Mapping[str, str]]) -> Estimate:
    """Return the mean over sites with its uncertainty.

    Args:
        seeds: of each the values; a site or a case may be in some of them only. patients: patient by site and case.

    Raises:
        ValueError: no seed, or a seed without a case.
    """
    if not seeds or not all(one.sites and all(one.sites.values()) for one in seeds):
        raise ValueError("found a seed without cases, expected one or more seeds with one or more cases at each site")
    means, parts = {}, {}
    for site in sorted({site for one in seeds for site in one.sites}):
        tables = [one.sites[site] for one in seeds if site in one.sites]
        cases = {case for table in tables for case in table}
        values = {case: statistics.fmean(table[case] for table in tables if case in table) for case in cases}
        means[site], parts[site] = _mean_of_patients(values, patients[site])
    counts = {site: len({patients[site][case] for one in seeds for case in one.sites.get(site, ())}) for site in means}
    variances = [part for part in parts.values() if part is not None]
    if len(variances) < len(parts):  # a site with one patient has no variance of its own: the sites are the sample
        among = statistics.variance(means.values()) / len(means) if len(means) > 1 else None
        strata = [] if among is None else [(among, len(means) - 1.0)]
    else:
        strata = [(variance / len(parts) ** 2, freedom) for variance, freedom in variances]
    over_seeds = _over_seeds(seeds)
    mean = statistics.fmean(means.values())
    told = {"mean": mean, "seeds": len(seeds), "patients": sum(counts.values()), "sites": means}
    if not strata or over_seeds is None:
        return Estimate(**told, error=None, freedom=0.0)  # type: ignore[arg-type]
    every = [*strata, over_seeds]
    total = sum(variance for variance, _ in every)
    below = sum(variance**2 / freedom for variance, freedom in every)
    freedom = total**2 / below if below else float(len(seeds) - 1)
    return Estimate(**told, error=math.sqrt(total), freedom=freedom)  # type: ignore[arg-type]


def margin_of(gain: float, *, largest: float, share: float) -> float | None:
    """Return the largest difference that counts as equal; None where the reference gains nothing over the base."""
    return min(largest, share * gain) if gain > 0 else None


def _mean_of_patients(values: Cases, patients: Mapping[str, str]) -> tuple[float, tuple[float, float] | None]:
    """Return the mean over cases, its variance over patients and their degrees of freedom; None of one patient."""
    mean, sums = statistics.fmean(values.values()), dict[str, float]()
    for case, value in values.items():
        sums[patients[case]] = sums.get(patients[case], 0.0) + (value - mean) / len(values)
    count = len(sums)
    if count < 2:
        return mean, None
    return mean, (count / (count - 1) * sum(part**2 for part in sums.values()), float(count - 1))


def _over_seeds(seeds: Sequence[Seed]) -> tuple[float, float] | None:
    """Return the variance over seeds of the mean, and its degrees of freedom; seeds of a fold are told apart."""
    if len(seeds) < FEWEST_SEEDS:
        return None
    by_fold: dict[int, list[float]] = {}
    for one in seeds:
        whole = statistics.fmean(statistics.fmean(cases.values()) for cases in one.sites.values())
        by_fold.setdefault(one.fold, []).append(whole)
    groups = list(by_fold.values())
    if len(seeds) == len(groups):  # one seed a fold: what the folds differ by is counted as what seeds differ by
        groups = [[mean for group in groups for mean in group]]
    freedom = len(seeds) - len(groups)
    squares = sum((mean - statistics.fmean(group)) ** 2 for group in groups for mean in group)
    return squares / freedom / len(seeds), float(freedom)
