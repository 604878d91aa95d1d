"""Uncertainty over patients and seeds: scipy's numbers where one part stands alone, hand-made sums, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from sitelora.comparison.evidence.estimate import Seed, estimate, margin_of

ONE = [0.03, -0.01, 0.02, 0.05, 0.01, 0.00]
TWO = [0.10, 0.06, 0.02]
PATIENTS = {site: {f"c{n}": f"p{n}" for n in range(60)} for site in ("a", "b", "c")}


def seed(fold: int = 0, **sites: list[float]) -> Seed:
    return Seed(sites={s: {f"c{n}": value for n, value in enumerate(values)} for s, values in sites.items()}, fold=fold)


def test_one_site_and_equal_seeds_are_scipys_t_test() -> None:
    found = estimate([seed(a=ONE), seed(a=ONE)], PATIENTS)
    reference = ttest_1samp(ONE, 0)
    assert found.mean == pytest.approx(np.mean(ONE))
    assert found.freedom == pytest.approx(len(ONE) - 1)
    assert found.differs() == pytest.approx(reference.pvalue)
    low, high = reference.confidence_interval(0.95)
    assert found.interval() == pytest.approx((low, high))


def test_patients_without_spread_leave_a_t_test_over_seeds() -> None:
    seeds = [0.01, 0.03, 0.02]
    found = estimate([seed(a=[value] * 5) for value in seeds], PATIENTS)
    assert found.freedom == pytest.approx(2)
    assert found.differs() == pytest.approx(ttest_1samp(seeds, 0).pvalue)


def test_sites_count_the_same_and_their_variances_add_up() -> None:
    found = estimate([seed(a=ONE, b=TWO)] * 2, PATIENTS)
    assert found.mean == pytest.approx((np.mean(ONE) + np.mean(TWO)) / 2)
    parts = [np.var(values, ddof=1) / len(values) / 4 for values in (ONE, TWO)]
    assert found.error == pytest.approx(math.sqrt(sum(parts)))
    assert found.freedom == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 5 + parts[1] ** 2 / 2))
    assert found.patients == 9


def test_cases_of_one_patient_are_one_piece_of_evidence() -> None:
    twice = {"a": {f"c{n}": f"p{n % len(ONE)}" for n in range(2 * len(ONE))}}
    doubled = estimate([seed(a=ONE + ONE)] * 2, twice)
    assert doubled.error == pytest.approx(estimate([seed(a=ONE)] * 2, PATIENTS).error)


def test_sites_of_one_patient_each_are_the_sample() -> None:
    found = estimate([seed(a=[0.01], b=[0.05], c=[0.03])] * 2, PATIENTS)
    assert found.differs() == pytest.approx(ttest_1samp([0.01, 0.05, 0.03], 0).pvalue)


def test_folds_are_no_seeds() -> None:
    """Two folds with other patients and another mean: only what seeds of one fold differ by is theirs."""
    first = [seed(fold=0, a=[0.10, 0.10]), seed(fold=0, a=[0.12, 0.12])]
    second = [
        Seed(sites={"a": {"d0": 0.0, "d1": 0.0}}, fold=1),
        Seed(sites={"a": {"d0": 0.02, "d1": 0.02}}, fold=1),
    ]
    patients = {"a": {"c0": "p0", "c1": "p1", "d0": "p2", "d1": "p3"}}
    found = estimate(first + second, patients)
    within = np.var([0.11, 0.11, 0.01, 0.01], ddof=1) / 4
    over_seeds = 4 * 0.01**2 / 2 / 4
    assert found.mean == pytest.approx(0.06)
    assert found.error == pytest.approx(math.sqrt(within + over_seeds))


def test_one_seed_or_one_patient_alone_says_nothing_of_chance() -> None:
    for found in (estimate([seed(a=ONE)], PATIENTS), estimate([seed(a=[0.1])] * 2, PATIENTS)):
        assert (found.error, found.interval(), found.differs(), found.equals(0.01)) == (None, None, None, None)
    with pytest.raises(ValueError, match="without cases"):
        estimate([], PATIENTS)


def test_equality_is_two_one_sided_tests_that_can_fail() -> None:
    narrow = estimate([seed(a=[0.001, -0.001, 0.002, 0.0, 0.001, -0.002])] * 2, PATIENTS)
    p = max(
        ttest_1samp([0.001, -0.001, 0.002, 0.0, 0.001, -0.002], -0.01, alternative="greater").pvalue,
        ttest_1samp([0.001, -0.001, 0.002, 0.0, 0.001, -0.002], 0.01, alternative="less").pvalue,
    )
    assert narrow.equals(0.01) == pytest.approx(p)
    assert p < 0.05
    wide = estimate([seed(a=ONE)] * 2, PATIENTS)
    p_wide = wide.equals(0.01)
    assert p_wide is not None
    assert p_wide > 0.05
    apart = estimate([seed(a=[0.03, 0.031, 0.029])] * 2, PATIENTS)
    p_apart = apart.equals(0.01)
    assert p_apart is not None
    assert p_apart > 0.95


def test_the_margin_is_a_fifth_of_the_gain_or_less() -> None:
    assert margin_of(0.10, largest=0.01, share=0.2) == 0.01
    assert margin_of(0.02, largest=0.01, share=0.2) == pytest.approx(0.004)
    assert margin_of(0.0, largest=0.01, share=0.2) is None


@pytest.mark.parametrize(("patients", "sites", "seeds"), [(4, 6, 3), (33, 1, 3), (2, 7, 4)])
def test_an_interval_covers_what_it_says(patients: int, sites: int, seeds: int) -> None:
    """Drawn truths of zero, with patients and seeds that differ: at least 93 % of 95 % intervals hold it."""
    rng, held, draws = np.random.default_rng(0), 0, 400
    names = [f"s{k}" for k in range(sites)]
    own = {name: {f"c{n}": f"p{n}" for n in range(patients)} for name in names}
    for _ in range(draws):
        effect, over = rng.normal(0, 0.02, (sites, patients)), rng.normal(0, 0.01, seeds)
        made = [
            seed(**{n: list(effect[k] + over[s] + rng.normal(0, 0.005, patients)) for k, n in enumerate(names)})
            for s in range(seeds)
        ]
        interval = estimate(made, own).interval()
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
    assert held / draws >= 0.93
    assert float(t.ppf(0.975, 3)) > 3  # where patients are few, Student's t and not the normal distribution
