import json
import re
import statistics

import pytest

from sitelora.report.figures import dice_by_round
from sitelora.report.results import read_run
from sitelora.report.sections import round_by_round
from sitelora.report.tables import round_site_table, round_table, site_table
from sitelora.report.text import summary_text
from sitelora.run_result import RunResult, RunResultError, ServedModel
from sitelora.typed_json import from_json

WORDS = ["received after round 4", "trained in round 4", "kept from round 2"]


def cells(table):
    return [re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]


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
    table, text = cells(site_table(run)), summary_text(run, width=120).splitlines()
    place = next(i for i, cell in enumerate(table[0]) if "Served" in cell)
    for row, site in enumerate(run.sites):
        words = WORDS[row % 3]
        assert words in table[row + 1][place]
        assert words in next(line for line in text if line.startswith(site))
    assert "validation 0.876" in table[2][place]


def test_every_curve_and_head_says_which_model_it_shows(run_dir):
    run = read_run(run_dir)
    last = run.rounds[-1].sites["site-2"].metrics
    ends = ", ".join(
        f"{word} {last[name]:.3f}"
        for word, name in (
            ("received", "dice_received"),
            ("freshly trained", "dice_personal"),
            ("served", "dice_served"),
        )
    )
    assert (
        f'aria-label="Validation Dice by round at site-2, the last of each model: {ends}"'
        in dice_by_round(run, "site-2").svg
    )
    chapter = round_by_round(run, [dice_by_round(run, "site-2")])
    for words in ("Received from the server, before training", "Freshly trained, before averaging", "Served after"):
        assert words in chapter
    heads = [re.sub("<.*?>", "", cell) for cell in cells(round_table(run))[0]]
    assert heads[2:4] == ["Dice received → trained", "Regularizer"]
    first = [each.metrics for each in run.rounds[0].sites.values()]
    dice = [statistics.fmean(entry[f"dice_{name}"] for entry in first) for name in ("received", "personal", "served")]
    assert "{:.3f} → {:.3f}<small>served {:.3f}".format(*dice) in cells(round_table(run))[1][2]
    assert "25.0 %" in cells(round_table(run))[1][3]
    assert f"served {last['dice_served']:.3f}" in cells(round_site_table(run))[-1][2]
    assert "after training (" not in chapter.lower()


def test_an_earlier_run_that_does_not_tell_shows_no_served_model(run_dir, tmp_path):
    result = json.loads((run_dir / "server" / "result.json").read_text())
    for entry in result["rounds"]:
        for site in entry["sites"].values():
            site["metrics"] = {k: v for k, v in site["metrics"].items() if k in ("dice_received", "dice_personal")}
    for models in result["evaluation"].values():
        del models["personal"]["served"]
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "result.json").write_text(json.dumps(result))
    run = read_run(tmp_path)
    shown = (
        site_table(run) + round_table(run) + round_site_table(run) + round_by_round(run, [dice_by_round(run, "site-1")])
    )
    assert not [words for words in ("Served", ">served", "served one", ", served ") if words in shown]
    assert "Regularizer" not in shown
    assert "is served" not in summary_text(run, width=120)
