"""Scores without names: what leaves a site of its evaluation. Names of cases and patients stay in its own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def numbered(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation whose cases and patients are numbers in the place of names.

    Cases are numbered in the order of the (patient, case) names of this site, patients likewise, so the numbers of
    all models agree and an interval over patients can still be drawn.

    Args:
        results: by model kind, what ``evaluate_cases`` gave, or ``{"not_applicable": reason}``.
    """
    names = {
        (str(case["patient"]), str(case["case"])) for scores in results.values() for case in scores.get("cases", ())
    }
    patients = {name: index for index, name in enumerate(sorted({patient for patient, _ in names}), start=1)}
    cases = {name: index for index, name in enumerate(sorted(names), start=1)}
    return {
        kind: {
            **scores,
            "cases": [
                {
                    **case,
                    "case": f"case {cases[str(case['patient']), str(case['case'])]}",
                    "patient": f"patient {patients[str(case['patient'])]}",
                }
                for case in scores["cases"]
            ],
        }
        if "cases" in scores
        else dict(scores)
        for kind, scores in results.items()
    }
