"""The committed page of the site that lies is that of the committed numbers, and it says what they say."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "results" / "attacks" / "poisoned_site.json"


def test_the_page_is_that_of_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = ROOT / "benchmarks" / "attacks"
    monkeypatch.syspath_prepend(str(scripts))
    script = runpy.run_path(str(scripts / "poisoned_site.py"))
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert script["page"](table) == script["PAGE"].read_text(encoding="utf-8")
    rows = {name: row["dice"] for name, row in table["rows"].items()}
    assert (
        rows["flipped_signs_x10, mean, bounds off"]
        < 0.1
        < 0.6
        < rows["flipped_signs_x10, coordinate_median, bounds off"]
    )
