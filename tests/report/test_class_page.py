"""The page of a classification: set scores, curves, who is taken for whom and certain mistakes; nothing about masks."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from class_run import make_class_run
from sitelora.report.compare_two_runs import with_beside
from sitelora.report.facts import page_facts
from sitelora.report.page import build_report, rendered
from sitelora.report.picture import demo_picture
from sitelora.report.results import Run, read_run
from sitelora.report.set_scores import plots_of, set_table
from sitelora.report.tables import case_table
from sitelora.report.warnings_of_run import warnings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("class") / "run"
    make_class_run(place, cases=48, sites=("site-1", "site-2"))
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return read_run(folder)


@pytest.fixture(scope="module")
def facts(run: Run) -> dict[str, Any]:
    return page_facts(run)


@pytest.fixture(scope="module")
def page(facts: dict[str, Any]) -> str:
    return rendered(facts)


def test_every_site_has_its_set_scores_with_intervals_and_how_it_decides(run: Run, facts: dict[str, Any]) -> None:
    table = facts["set_table"]
    heads = [column.head for column in table.columns]
    assert heads[2:] == [metric.title for metric in run.task.set_metrics]
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        (site, model) for site in ("site-1", "site-2") for model in ("Base", "Personal")
    ]
    area = heads.index("AUC")
    assert all(re.fullmatch(r"0\.\d\d–[01]\.\d\d", row[area].small) for row in table.rows)
    told = run.evaluation["site-1"]["personal"].set_scores["auc"]
    assert table.rows[1][area].text == f"{told:.3f}"
    assert [line for line in facts["decisions"] if line.startswith("site-1, personal model: temperature")]
    assert run.evaluation["site-1"]["unseen"].decision == {}, "nobody fits anything for who never took part"


def test_curves_counts_and_mistakes_are_drawn(folder: Path, run: Run, tmp_path: Path) -> None:
    build_report(folder, tmp_path)
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    kinds = ("reliability", "roc", "confusion")
    assert {f"{kind}-{site}" for kind in kinds for site in ("site-1", "site-2")} <= drawn
    numbers = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    told = numbers["evaluation"]["site-1"]["personal"]
    assert told["set_ci95"]["auc"][0] <= told["set_scores"]["auc"] <= told["set_ci95"]["auc"][1]
    (counts,) = (plot["counts"] for plot in numbers["plots"]["site-1"] if plot["name"] == "confusion")
    assert sum(map(sum, counts)) == 48
    wrong = counts[0][1] + counts[1][0]
    assert len(run.overlays["site-1"]) == min(3, wrong) > 0
    assert {overlay.which for overlay in run.overlays["site-1"]} <= {f"mistake {place}" for place in (1, 2, 3)}
    assert demo_picture(run).startswith(b"\x89PNG")


def test_nothing_is_said_of_masks(page: str) -> None:
    assert "outlines" not in page
    assert "slice with the largest" not in page
    assert "Prediction (thin)" not in page
    assert "most certain mistakes" in page
    assert "under a number, its true class, the chosen one and the probability of every class" in page
    assert "Images, pictures of cases\nand local tensors are not part" in page


def test_a_case_has_one_row_and_is_right_or_wrong(run: Run) -> None:
    table = case_table(run)
    assert len(table.rows) == 96
    heads = [column.head for column in table.columns]
    assert heads[:2] == ["Case", "Site"]
    assert "Probability of truth" in heads
    first = heads.index("Balanced accuracy personal")
    words = [row[first].text for row in table.rows]
    assert set(words) == {"right", "wrong"}
    assert words == sorted(words, reverse=True), "wrong ones first"


@pytest.mark.parametrize(("classes", "absent", "told"), [(2, (1,), "over 1 class,"), (4, (0,), "the 3 other classes,")])
def test_a_class_that_a_site_has_no_case_of_is_said_and_leaves_gaps(
    tmp_path: Path, classes: int, absent: tuple[int, ...], told: str
) -> None:
    make_class_run(tmp_path / "run", classes=classes, cases=24, absent=absent, sites=("site-1", "site-2"))
    run = read_run(tmp_path / "run")
    (line,) = (line for line in warnings(run) if line.startswith("No test case at site-2 is of the class"))
    assert told in line
    table = set_table(run)
    assert table is not None
    column = [each.head for each in table.columns].index("AUC")
    assert (table.rows[-1][column].text == "–") == (classes == 2)
    names = [plot.name for plot in plots_of(run)["site-2"]]
    assert ("roc" in names) == (classes > 2)
    assert "confusion" in names


def test_a_run_beside_is_compared_case_by_case(run: Run, tmp_path: Path) -> None:
    sites, skill = ("site-1", "site-2"), {"base": 0.3, "personal": 0.6, "unseen": 0.5}
    told = make_class_run(tmp_path / "run", cases=48, sites=sites, skill=skill)
    result = tmp_path / "run/server/result.json"
    result.write_text(json.dumps({**told, "method": "local", "uid": "another"}), encoding="utf-8")
    both = with_beside(read_run(tmp_path / "run"), run)
    worse = [line for line in warnings(both) if "is worse than its model of the fedopal run" in line]
    assert [line.split()[0] for line in worse] == list(sites)
