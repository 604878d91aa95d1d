import json
import random

import numpy as np
import pytest

from sitelora.evaluation.scores import SiteCases, patient_interval, sites_interval
from sitelora.evaluation.scores import summarise as summarise_by
from sitelora.metric import Metric
from sitelora.run_result import CaseScore
from sitelora.tasks.segmentation import DICE
from sitelora.typed_json import from_json


def score(case, dice, patient=None, hd95=4.0):
    return CaseScore(case=case, patient=patient or case, metrics={"prostate": {"dice": dice, "hd95_mm": hd95}})


def summarise(cases, **how):
    return summarise_by(cases, DICE, **how)


def test_summary_values():
    summary = summarise([score("a", 0.9), score("b", 0.5), score("c", 0.7), score("d", 0.2, hd95=None)])
    assert summary["score"] == pytest.approx(0.575)
    assert summary["score_median"] == pytest.approx(0.6)
    assert summary["score_worst"] == 0.2
    assert summary["labels"]["prostate"] == {"dice": pytest.approx(0.575), "hd95_mm": 4.0}
    assert (summary["case_count"], summary["patient_count"]) == (4, 4)
    low, high = summary["score_ci95"]
    assert 0.2 <= low < 0.575 < high <= 0.9


def test_the_worst_case_is_the_worst_whichever_way_the_score_goes():
    cases = [score(f"c{i}", 0.5, hd95=value) for i, value in enumerate((2.0, 9.0, 4.0))]
    distance = Metric(name="hd95_mm", title="HD95", more_is_better=False, highest=None)
    assert summarise_by(cases, distance)["score_worst"] == 9.0
    assert summarise(cases)["score_worst"] == 0.5


def test_scores_of_the_whole_set_are_made_from_the_ordered_cases_and_stand_beside():
    def of_all(cases, weights):
        values = np.array([case.mean("dice") for case in cases])
        return {
            "first": np.where(weights[:, 0] > 0, values[0], np.nan),
            "mean": weights @ values / weights.sum(axis=1),
            "none": np.full(len(weights), np.nan),
        }

    cases = [score(f"c{i}", i / 10, patient=f"p{i % 7}") for i in range(20)]
    summary = summarise(cases, score_set=of_all, seed=3)
    assert summary["set_scores"] == {"first": 0.0, "mean": pytest.approx(summary["score"]), "none": None}
    assert summary["set_ci95"]["mean"] == pytest.approx(summary["score_ci95"]), "the same draws of patients"
    assert summary["set_ci95"]["first"] == [0.0, 0.0], "draws in which it is undefined are left out"
    assert summary["set_ci95"]["none"] is None
    assert summarise(cases[:2], score_set=of_all).keys() & {"set_scores", "set_ci95"} == {"set_scores"}
    assert not summarise(cases).keys() & {"set_scores", "set_ci95"}


def test_a_cases_score_is_the_mean_over_labels():
    both = CaseScore(case="a", patient="p", metrics={"kidney": {"dice": 1.0}, "tumour": {"dice": 0.5}})
    assert both.mean("dice") == 0.75


def test_the_summary_does_not_depend_on_the_order_of_cases_and_survives_json():
    cases = [score(f"c{i}", i / 10, patient=f"p{i % 4}") for i in range(9)]
    shuffled = random.Random(3).sample(cases, len(cases))
    summary = summarise(cases, seed=5)
    assert summarise(shuffled, seed=5) == summary
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    again = [from_json(CaseScore, case) for case in summary["cases"]]
    assert sorted(again, key=lambda s: s.case) == sorted(cases, key=lambda s: s.case)


def test_the_interval_is_over_patients_not_cases():
    values, patients = [0.2] * 30 + [0.8] * 30, ["p1"] * 15 + ["p2"] * 15 + ["p3"] * 15 + ["p4"] * 15
    by_patient = patient_interval(values, patients, seed=1)
    by_case = patient_interval(values, [str(i) for i in range(60)], seed=1)
    assert by_patient[1] - by_patient[0] > 2 * (by_case[1] - by_case[0])


def test_the_interval_of_many_patients_is_the_normal_one():
    values = np.random.default_rng(0).normal(0.7, 0.1, 400)
    low, high = patient_interval(values, [str(i) for i in range(400)], seed=0, resamples=4000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.002)
    assert high == pytest.approx(values.mean() + half, abs=0.002)


def test_over_sites_every_site_counts_the_same_and_the_interval_is_the_normal_one():
    rng = np.random.default_rng(0)
    small, large = rng.normal(0.5, 0.1, 100), rng.normal(0.9, 0.2, 900)
    sites = [SiteCases(values, [str(i) for i in range(len(values))]) for values in (small, large)]
    low, high = sites_interval(sites, resamples=4000)
    middle = (small.mean() + large.mean()) / 2
    half = 1.96 * np.sqrt(small.var() / 100 + large.var() / 900) / 2
    assert (low, high) == (pytest.approx(middle - half, abs=0.002), pytest.approx(middle + half, abs=0.002))
    assert sites_interval([*sites, SiteCases([0.1, 0.2], ["a", "b"])]) is None


def test_two_patients_have_no_interval():
    assert summarise([score("a", 0.9, "p1"), score("b", 0.5, "p1"), score("c", 0.7, "p2")])["score_ci95"] is None


def test_distances_that_no_case_defines_are_null():
    assert summarise([score("a", 0.0, hd95=None)])["labels"]["prostate"]["hd95_mm"] is None


def test_nothing_to_summarise_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        summarise([])
    with pytest.raises(ValueError, match="case a has no finite Dice"):
        summarise([CaseScore(case="a", patient="p", metrics={})])
