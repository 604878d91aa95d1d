import json
import statistics

import pytest

from sitelora.report.facts import page_facts
from sitelora.report.figures import score_by_round
from sitelora.report.page import rendered
from sitelora.report.results import read_run
from sitelora.report.tables import round_site_table, round_table, site_table
from sitelora.report.text import summary_text
from sitelora.run_result import RunResult, RunResultError, ServedModel
from sitelora.typed_json import from_json

WORDS = ["received after round 5", "trained in round 5", "kept from round 3"]


def chapters(run):
    """Return the page without its glossary."""
    return rendered(page_facts(run)).split("Words on this page")[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"model": "received", "round": 0}, "received at the start"),
        ({"model": "received", "round": 5}, WORDS[0]),
        ({"model": "trained", "round": 4}, WORDS[1]),
        ({"model": "previous", "round": 2}, WORDS[2]),
    ],
)
def test_a_served_model_says_which_it_is_and_of_which_round(value, words):
    assert from_json(ServedModel, value).words == words


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"round": 1}, "served.model: found nothing, expected a text"),
        ({"model": "trained"}, "served.round: found nothing, expected a whole number"),
        ({"model": 3, "round": 1}, "served.model: found 3, expected a text"),
    ],
)
def test_a_served_model_without_its_kind_or_round_is_refused_by_name(value, told):
    with pytest.raises(RunResultError, match=f"evaluation.site-9.personal.{told}"):
        RunResult.from_json({"evaluation": {"site-9": {"personal": {"served": value}}}})


def test_page_and_terminal_say_at_every_site_which_model_is_served(run_dir):
    run = read_run(run_dir)
    table, text = site_table(run), summary_text(run, width=120).splitlines()
    place = [column.head for column in table.columns].index("Served")
    for row, site in enumerate(run.sites):
        words = WORDS[row % 3]
        assert table.rows[row][place].text == words
        assert words in next(line for line in text if line.startswith(site))
    assert table.rows[1][place].small == "validation 0.876"


def test_every_curve_and_head_says_which_model_it_shows(run_dir):
    run = read_run(run_dir)
    last = run.rounds[-1].sites["site-2"].metrics
    ends = ", ".join(
        f"{word} {last[name]:.3f}"
        for word, name in (
            ("received", "score_received"),
            ("freshly trained", "score_personal"),
            ("served", "score_served"),
        )
    )
    assert (
        f'aria-label="Validation Dice by round at site-2, the last of each model: {ends}"'
        in score_by_round(run, "site-2").svg
    )
    page = chapters(run)
    for words in ("Received from the server, before training", "Freshly trained, before averaging", "Served after"):
        assert words in page
    table = round_table(run)
    assert [column.head for column in table.columns][2:4] == ["Dice received → trained", "Regularizer"]
    first = [each.metrics for each in run.rounds[0].sites.values()]
    dice = [statistics.fmean(entry[f"score_{name}"] for entry in first) for name in ("received", "personal", "served")]
    assert table.rows[0][2].text == "{:.3f} → {:.3f}".format(*dice[:2])
    assert table.rows[0][2].small == f"served {dice[2]:.3f}"
    assert table.rows[0][3].text == "25.0 %"
    assert round_site_table(run).rows[-1][2].small == f"served {last['score_served']:.3f}"
    assert "after training (" not in page.lower()


def test_an_earlier_run_that_does_not_tell_shows_no_served_model(run_dir, tmp_path):
    result = json.loads((run_dir / "server" / "result.json").read_text())
    for entry in result["rounds"]:
        for site in entry["sites"].values():
            site["metrics"] = {k: v for k, v in site["metrics"].items() if k in ("score_received", "score_personal")}
    for models in result["evaluation"].values():
        del models["personal"]["served"]
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "result.json").write_text(json.dumps(result))
    run = read_run(tmp_path)
    shown = chapters(run)
    assert not [words for words in ("Served", ">served", "served one", ", served ") if words in shown]
    assert "Regularizer" not in shown
    assert "is served" not in summary_text(run, width=120)
