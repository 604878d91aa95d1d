"""The round trip of corrections, as `benchmarks/corrections.py` does it: federation, export, masks back, federation."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "corrections.py"
PAGE = Path(__file__).parents[2] / "docs" / "results" / "corrections.md"


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.soak
def test_the_corrected_kind_gets_better_on_other_patients_and_the_usual_cases_lose_little(
    benchmark: dict[str, Any], tmp_path: Path
) -> None:
    found = benchmark["round_trip"](tmp_path, 0)
    assert found["taken"] == {"added": 2, "added (validation)": 1}
    assert [len(found[model]["other_patients"]) for model in ("exported", "control", "corrected")] == [8, 8, 8]
    means = {model: fmean(found[model]["other_patients"]) for model in ("exported", "control", "corrected")}
    assert means["corrected"] > max(means["exported"], means["control"]) + 0.1
    for site, before in found["exported"]["usual_test_cases"].items():
        assert found["corrected"]["usual_test_cases"][site] > before - 0.1


def test_the_committed_page_is_that_of_the_committed_numbers(benchmark: dict[str, Any]) -> None:
    found = json.loads(benchmark["RESULTS"].read_text(encoding="utf-8"))
    assert benchmark["page"](found) == PAGE.read_text(encoding="utf-8")
    assert {run["base"] for run in found["runs"]} == {"sam_tiny (embedded)"}
