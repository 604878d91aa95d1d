import json
from dataclasses import replace

import pytest

from sitelora.report.compare_two_runs import beside_difference, with_beside
from sitelora.report.findings import headline, verdict
from sitelora.report.page import build_report
from sitelora.report.results import ReportError, read_run
from sitelora.report.tables import site_table
from sitelora.report.text import summary_text
from sitelora.report.warnings_of_run import warnings
from sitelora.tasks.segmentation import TASK
from sitelora.typed_json import to_json


def run_of(folder, dice, **facts):
    """A run with a personal Dice of every site."""
    told = {
        **to_json(TASK.scoring),
        "completed": True,
        "method": "iat",
        "dataset": "lungs",
        "uid": folder.name,
        "image_size": 128,
        "rounds_done": 2,
        "base": {"name": "sam_tiny", "sha256": "ab" * 32},
        "sites": {site: {"cases": {"training": 8, "validation": 2, "test": 4}} for site in dice},
        "evaluation": {
            site: {"base": {"score": 0.1}, "personal": {"score": value}, "unseen": {"score": 0.2}}
            for site, value in dice.items()
        },
    }
    (folder / "server").mkdir(parents=True)
    (folder / "server" / "result.json").write_text(json.dumps(told | facts))
    return read_run(folder)


@pytest.fixture
def pair(tmp_path):
    """A run and the local run of the same job; the second site is below its local model."""
    mine = run_of(tmp_path / "iat", {"a": 0.9, "b": 0.6, "c": 0.7})
    return mine, run_of(tmp_path / "local", {"a": 0.7, "b": 0.65, "c": 0.7}, method="local")


def test_the_other_runs_personal_dice_is_one_more_model(pair):
    both = with_beside(*pair)
    assert both.models == ["base", "local", "personal", "unseen"]
    assert [both.evaluation[site]["local"].score for site in "abc"] == [0.7, 0.65, 0.7]
    assert beside_difference(both) == pytest.approx((0.2 - 0.05 + 0) / 3)
    assert headline(both)["personal_minus_beside"] == pytest.approx(0.05)
    assert "Against the local run it is better at 1 of 3 sites, mean difference +0.050." in verdict(both)
    assert pair[0].models == ["base", "personal", "unseen"]  # untouched


def test_every_site_below_its_local_model_is_one_warning_and_an_equal_one_is_none(pair):
    assert [line for line in warnings(with_beside(*pair)) if "worse than its model" in line] == [
        "b is worse than its model of the local run: personal Dice 0.600 against 0.650."
    ]
    assert not [line for line in warnings(pair[0]) if "worse" in line]


def test_scores_of_another_kind_are_not_compared(pair):
    mine, other = pair
    with pytest.raises(ReportError, match="scored by HD95, this one by Dice"):
        with_beside(mine, replace(other, primary=TASK.metrics[1]))


def test_a_fair_pair_has_no_note_on_fairness(pair):
    assert with_beside(*pair).beside_notes == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"rounds_done": 3}, "the rounds done (2 here, 3 there)"),
        ({"image_size": 64}, "the input size (128 here, 64 there)"),
        ({"base": {"name": "sam_vit_b", "sha256": "cd" * 32}}, "sha256 abababababab here, sam_vit_b"),
        (
            {"sites": {s: {"cases": {"training": 9, "validation": 2, "test": 4}} for s in "abc"}},
            "at a, b and c (8 / 2 / 4",
        ),
        ({"completed": False}, "The local run is not complete"),
    ],
)
def test_what_makes_the_comparison_unfair_is_said(tmp_path, facts, words):
    mine = run_of(tmp_path / "iat", {"a": 0.9, "b": 0.6, "c": 0.7})
    both = with_beside(mine, run_of(tmp_path / "local", {"a": 0.7, "b": 0.6, "c": 0.7}, method="local", **facts))
    assert len(both.beside_notes) == 1
    assert words in both.beside_notes[0]
    assert both.beside_notes[0] in warnings(both)
    assert "the two runs differ in more than the method" in verdict(both)


def test_other_sites_are_named_and_the_common_ones_compared(tmp_path):
    mine = run_of(tmp_path / "iat", {"a": 0.9, "b": 0.6})
    both = with_beside(mine, run_of(tmp_path / "local", {"b": 0.4, "c": 0.7}, method="local"))
    assert "the sites (a only here; c only there)" in both.beside_notes[0]
    assert beside_difference(both) == pytest.approx(0.2)
    assert "local" not in both.evaluation["a"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"uid": "iat"}, r"this run itself \(uid iat\)"),
        ({"dataset": "cells"}, "'cells', this one 'lungs'"),
        ({"evaluation": {}}, "this one scored a, the one beside none"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, facts, words):
    mine = run_of(tmp_path / "iat", {"a": 0.9})
    other = run_of(tmp_path / "local", {"a": 0.7}, **({"method": "local"} | facts))
    with pytest.raises(ReportError, match=words):
        with_beside(mine, other)


@pytest.mark.parametrize("method", ["iat", "base", "personal"])
def test_a_method_of_the_same_name_keeps_a_column_of_its_own(tmp_path, method):
    both = with_beside(run_of(tmp_path / "one", {"a": 0.9}), run_of(tmp_path / "two", {"a": 0.7}, method=method))
    assert both.beside == f"{method} (beside)"
    assert both.evaluation["a"]["personal"].score == 0.9
    assert both.evaluation["a"]["base"].score == 0.1


def test_the_table_and_the_terminal_show_it_with_the_base(pair):
    table = site_table(with_beside(*pair))
    heads = [column.head for column in table.columns]
    assert heads == ["Site", "Base", "local run", "Personal", "Difference", "Unseen", "Cases"]
    shown = [(row[4].text, row[4].small) for row in (*table.rows, table.footer)]
    assert shown == [("+0.200", ""), ("\N{MINUS SIGN}0.050", "worse"), ("+0.000", ""), ("+0.050", "")]
    lines = summary_text(with_beside(*pair), width=100).splitlines()
    head = next(line for line in lines if line.startswith("site "))
    assert head.split()[:6] == ["site", "base", "local", "personal", "vs", "local"]
    rows = {line.split()[0]: line.split()[1:5] for line in lines if line[:2] in ("a ", "b ", "c ", "me")}
    assert rows == {
        "a": ["0.100", "0.700", "0.900", "+0.200"],
        "b": ["0.100", "0.650", "0.600", "\N{MINUS SIGN}0.050"],
        "c": ["0.100", "0.700", "0.700", "+0.000"],
        "mean": ["0.100", "0.683", "0.733", "+0.050"],
    }
    assert max(map(len, summary_text(with_beside(*pair), width=44).splitlines())) <= 44


def test_the_page_and_its_json_hold_both(pair, tmp_path):
    page = build_report(tmp_path / "iat", tmp_path / "out", beside=tmp_path / "local").read_text(encoding="utf-8")
    assert "Personal model of the local run" in page
    assert "b is worse than its model of the local run" in page
    assert "mean over sites; base 0.100; local 0.683" in page
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["evaluation"]["b"]["local"]["score"] == 0.65
    assert results["headline"]["beside"] == "local"


@pytest.mark.parametrize(
    ("dice", "words"),
    [
        ({"a": 0.9, "b": 0.8}, "better at every site, mean difference +0.150."),
        ({"a": 0.6, "b": 0.7}, "better at none of 2 sites, mean difference \N{MINUS SIGN}0.050."),
        ({"a": 0.9}, "better at 1 of 1 site, mean difference +0.200; the two runs differ in more than the method."),
    ],
)
def test_the_verdict_says_where_it_is_better(tmp_path, dice, words):
    mine = run_of(tmp_path / "iat", dice)
    assert words in verdict(with_beside(mine, run_of(tmp_path / "local", {"a": 0.7, "b": 0.7}, method="local")))
