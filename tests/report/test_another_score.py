"""The page of a run whose primary score is a distance: no Dice in the first place, and less is better."""

import json

import pytest

from sitelora.report.facts import page_facts
from sitelora.report.findings import compared, mean_score, verdict
from sitelora.report.page import rendered
from sitelora.report.results import read_run
from sitelora.report.tables import case_table
from sitelora.report.warnings_of_run import warnings


@pytest.fixture
def run(maker, tmp_path):
    """The scores are left out of the files, so that the reader takes them from the cases."""
    maker(tmp_path, sites=("site-1", "site-2"), rounds=2)
    for path in tmp_path.glob("*/**/*.json"):
        told = json.loads(path.read_text(encoding="utf-8")) | {"primary": "hd95_mm"}
        for models in told.get("evaluation", {"own": told}).values():
            for block in models.values():
                if isinstance(block, dict):
                    for key in [key for key in block if key.startswith("score")]:
                        del block[key]
        path.write_text(json.dumps(told), encoding="utf-8")
    return read_run(tmp_path)


def test_every_number_is_the_distance_and_the_smaller_one_is_better(run):
    assert run.primary.name == "hd95_mm"
    assert mean_score(run, "personal") < mean_score(run, "base")
    assert compared(run, "personal") == (["site-1", "site-2"], [])
    base, personal = (f"{mean_score(run, model):.1f}" for model in ("base", "personal"))
    assert f"better than the base at both sites: mean HD95 {personal} against {base} on test data." in verdict(run)
    assert not [line for line in warnings(run) if "not better than the base" in line]


def test_cases_stand_worst_first(run):
    table = case_table(run)
    first = [column.head for column in table.columns].index("HD95 (mm) personal")
    values = [row[first].sort for row in table.rows]
    assert values == sorted(values, reverse=True)
    assert "Dice" in [column.head for column in table.columns]  # one of the further scores now


def test_the_page_says_which_way_is_better(run):
    page = rendered(page_facts(run))
    assert "further left is better" in page
    assert "HD95 on every site's own test cases" in page.replace("&#39;", "'")
    assert "Dice, NSD" not in page
    assert "Dice and NSD: of the personal model." in page
