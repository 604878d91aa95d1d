import json

import pytest

from sitelora.report.facts import page_facts
from sitelora.report.findings import headline, main_model, verdict
from sitelora.report.results import read_run
from sitelora.report.warnings_of_run import warnings
from sitelora.tasks.segmentation import TASK
from sitelora.typed_json import to_json


def run_of(folder, **facts):
    (folder / "server").mkdir(parents=True, exist_ok=True)
    (folder / "server" / "result.json").write_text(
        json.dumps(to_json(TASK.scoring) | {"completed": True, "rounds_planned": 2} | facts)
    )
    return read_run(folder)


def entry(status="ok", reason="", up=1000):
    return {"status": status, "reason": reason, "bytes_up": up, "bytes_down": 1000}


def dices(**models):
    return {model: {"score": value} for model, value in models.items()}


def test_the_verdict_of_a_good_run(run_dir):
    text = verdict(read_run(run_dir))
    assert text.startswith("6 sites trained together for 5 rounds. The personal model is better than the base at all 6")
    assert "A site sent 124 kB a round, 1/157 of what full fine-tuning would send." in text


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"a": dices(base=0.5, personal=0.6), "b": dices(base=0.5, personal=0.4)}, "at 1 of 2 sites"),
        ({"a": dices(base=0.5, personal=0.5)}, "better than the base at no site: mean Dice 0.500 against 0.500"),
        ({s: dices(base=0.5, personal=0.6) for s in "ab"}, "better than the base at both sites: mean"),
        ({"a": dices(base=0.2, personal=0.6)}, "at the one site: mean Dice 0.600 against 0.200"),
        ({"a": dices(personal=0.6)}, "mean Dice of 0.600 on test data; the base was not scored"),
        ({"a": dices(base=0.1, **{"global": 0.4})}, "The global model is better than the base at the one site"),
        ({"a": dices(base=0.1)}, "says nothing about quality"),
        ({}, "says nothing about quality"),
    ],
)
def test_the_verdict_says_no_more_than_the_numbers(tmp_path, evaluation, words):
    assert words in verdict(run_of(tmp_path, evaluation=evaluation))


def test_every_absence_is_one_warning_and_not_said_twice(tmp_path):
    rounds = [
        {
            "round": 0,
            "sites": {"a": entry(), "b": entry("missing", "no answer", 0), "c": entry("rejected", "B holds NaN")},
        },
        {"round": 1, "sites": {"a": entry(), "b": entry("missing", "no answer", 0), "c": entry()}},
    ]
    told = ["round 1: b missing: no answer", "round 2: b missing: no answer", "the base's hash is unknown"]
    found = warnings(run_of(tmp_path, rounds=rounds, warnings=told, rounds_done=2))
    assert found[0] == "the base's hash is unknown"
    assert "b was missing in rounds 1 and 2: no answer." in found
    assert "c sent an update that was rejected in round 1: B holds NaN." in found
    assert sum("no answer" in line for line in found) == 1


def test_sites_below_their_base_or_their_received_model_are_warned_of(tmp_path):
    evaluation = {
        "a": dices(base=0.5, received=0.7, personal=0.6, unseen=0.4),
        "b": dices(base=0.5, received=0.6, personal=0.4, unseen=0.7),
    }
    found = warnings(run_of(tmp_path, evaluation=evaluation, sites={"c": {}}))
    assert "The personal model is not better than the base at b." in found
    assert "The unseen-site model is not better than the base at a." in found
    assert "The personal model is not better than the received one at a and b." in found
    assert "There is no evaluation from c." in found


def test_a_run_cut_short_says_so_and_why(tmp_path):
    run = run_of(
        tmp_path,
        completed=False,
        rounds=[{"round": 0, "sites": {"a": entry()}}],
        rounds_done=1,
        error="too few sites: 1 of 4",
    )
    assert verdict(run).startswith("The run was cut short after 1 of 2 rounds with 1 site.")
    found = warnings(run)
    assert found[0] == "The run ended with an error: too few sites: 1 of 4"
    assert "The run is not complete: 1 of 2 rounds are done." in found


def test_a_clean_run_has_no_warnings(tmp_path):
    rounds = [{"round": n, "sites": {"a": entry()}} for n in range(2)]
    assert warnings(run_of(tmp_path, rounds=rounds, evaluation={"a": dices(base=0.1, personal=0.9)})) == []


def test_the_headline_counts_all_bytes(run_dir):
    run = read_run(run_dir)
    told = headline(run)
    assert told["bytes_up"] == 123_904 * 29
    assert told["bytes_down"] == 123_904 * 30
    assert told["full_fine_tuning_bytes_up"] == 19_482_624 * 29
    assert told["full_fine_tuning_bytes_down"] == 19_482_624 * 30
    assert told["full_fine_tuning_ratio"] == pytest.approx(19_482_624 / 123_904)
    assert told["begin_bytes_up"] == 123_904 * 6
    assert told["mean_score"]["global"] is None
    assert main_model(run) == "personal"


@pytest.mark.parametrize(("lost", "share"), [(0.05, None), (0.1000001, "1.0 %"), (0.5, "25.0 %")])
def test_a_truncation_that_drops_energy_is_warned_of(tmp_path, lost, share):
    rounds = [
        {"round": n, "sites": {"a": entry()}, "server": {"truncation_lost": value}}
        for n, value in ((0, 0.01), (1, lost))
    ]
    found = [line for line in warnings(run_of(tmp_path, rounds=rounds)) if "truncation" in line]
    assert len(found) == (share is not None)
    if share:
        assert f"energy in 1 of 2 rounds, at most {share} (round 2)" in found[0]


def test_drawn_data_is_warned_of_however_it_shows(tmp_path):
    sites = {
        "a": {"hospital": "Phantom hospital 1"},
        "b": {"hospital": "General"},
        "d": {"hospital": "St Phantomas"},
    }
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "events.jsonl").write_text(
        '{"time": 1, "event": "begin"}\n{"time": 2, "event": "artificial_data", "folder": "x"}\n{"ev'
    )
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "events.jsonl").write_text('{"time": 1, "event": "begin", "note": "artificial_data"}\n')
    run = run_of(tmp_path, sites=sites)
    assert run.artificial == ["a", "b"]
    assert warnings(run)[0].startswith("Artificial data at a and b: drawn")


def test_a_run_that_sends_nothing_says_so(tmp_path):
    rounds = [{"round": 0, "sites": {"a": entry(up=0) | {"bytes_down": 0}}}]
    run = run_of(tmp_path, rounds=rounds, egress={"shared": [], "full_model_bytes": 1000})
    assert verdict(run).endswith("Nothing was sent.")
    both = {site: entry(up=0) | {"bytes_down": 0} for site in ("a", "b")}
    alone = run_of(tmp_path, rounds=[{"round": 0, "sites": both}], egress={"shared": [], "full_model_bytes": 1000})
    assert verdict(alone).startswith("2 sites trained each alone for")
    assert headline(run)["full_fine_tuning_ratio"] is None


@pytest.mark.parametrize(
    ("falls", "told"),
    [
        ([(0.9, 0.75)], None),  # a bad round
        ([(0.3, 0.0)], None),  # what came was of no use yet
        ([(0.93, 0.41)], "from 0.93 to 0.41 (round 1)"),
        ([(0.6, 0.2), (0.93, 0.41), (0.41, 0.9)], "from 0.93 to 0.41 (round 2, and in 1 more)"),
    ],
)
def test_training_that_spoils_a_useful_model_is_warned_of(tmp_path, falls, told):
    rounds = [
        {"round": n, "sites": {"a": {**entry(), "metrics": {"score_received": before, "score_personal": after}}}}
        for n, (before, after) in enumerate(falls)
    ]
    found = [line for line in warnings(run_of(tmp_path, rounds=rounds)) if "learning rate" in line]
    assert len(found) == (told is not None)
    if told:
        assert found[0].startswith("Training at a spoilt its validation Dice")
        assert told in found[0]


def test_hardware_is_told_by_site_where_it_or_what_a_site_set_differs(tmp_path):
    machine = {"machine": "x86_64", "cores": 2}
    sites = {"a": {"hardware": machine}, "b": {"hardware": machine}}
    assert ("Hardware", "x86_64, 2 cores", "") in page_facts(run_of(tmp_path, sites=sites))["setup"]
    sites["b"]["own_settings"] = {"device": "cuda", "batch_size": 4}
    told = "a: x86_64, 2 cores; b: x86_64, 2 cores, set at the site: device cuda, batch size 4"
    assert ("Hardware", told, "") in page_facts(run_of(tmp_path, sites=sites))["setup"]
