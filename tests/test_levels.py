"""How often the benchmark's tests err: the drawn truth is nothing, and the page says what the file says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import levels  # noqa: E402


def test_what_is_drawn_has_the_folds_and_the_mean_that_are_said() -> None:
    case = levels.Case(patients=[2, 4], folds=2)
    seeds = levels.drawn(case, 4, np.random.default_rng(0))
    assert [one.fold for one in seeds] == [0, 1, 0, 1]
    assert [{site: sorted(cases) for site, cases in one.sites.items()} for one in seeds[:2]] == [
        {"site0": ["case0"], "site1": ["case0", "case1"]},
        {"site0": ["case1"], "site1": ["case2", "case3"]},
    ]
    many = [levels.judged(case, levels.drawn(case, 4, np.random.default_rng(n))).mean for n in range(200)]
    assert np.mean(many) == pytest.approx(0, abs=4 * np.std(many) / 200**0.5)


def test_the_page_says_what_the_file_says() -> None:
    found = json.loads(levels.FILE.read_text(encoding="utf-8"))
    assert found["draws"] == levels.DRAWS
    assert found["cases"].keys() == levels.CASES.keys()
    assert levels.PAGE.read_text(encoding="utf-8") == levels.page(found)
