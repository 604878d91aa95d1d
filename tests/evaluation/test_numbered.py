"""No name of a case or patient leaves with the scores, and the numbers still tell cases and patients apart."""

from __future__ import annotations

import json

from sitelora.evaluation.numbered import numbered


def results(dice: float) -> dict[str, object]:
    cases = [
        {"case": name, "patient": patient, "metrics": {"prostate": {"dice": dice}}}
        for name, patient in (("MILLER_2", "Miller"), ("MILLER_1", "Miller"), ("ADAMS_1", "Adams"))
    ]
    return {"dice": dice, "cases": cases}


def test_names_are_gone_and_the_scores_are_not() -> None:
    told = numbered({"base": results(0.25), "personal": results(0.5), "global": {"not_applicable": "because"}})
    text = json.dumps(told).lower()
    assert "miller" not in text
    assert "adams" not in text
    assert told["global"] == {"not_applicable": "because"}
    assert [case["metrics"]["prostate"]["dice"] for case in told["personal"]["cases"]] == [0.5, 0.5, 0.5]


def test_a_case_has_one_number_whatever_the_model_and_patients_stay_apart() -> None:
    told = numbered({"base": results(0.25), "personal": results(0.5)})
    pairs = [[(case["case"], case["patient"]) for case in told[kind]["cases"]] for kind in ("base", "personal")]
    assert pairs[0] == pairs[1] == [("case 3", "patient 2"), ("case 2", "patient 2"), ("case 1", "patient 1")]
