import json
import shutil

import pytest

from sitelora.report.findings import verdict
from sitelora.report.results import ReportError, read_run
from sitelora.report.text import summary_text
from sitelora.report.warnings_of_run import warnings
from sitelora.tasks.segmentation import TASK
from sitelora.typed_json import to_json


def write(folder, result, site=None):
    path = folder / "server" / "result.json" if site is None else folder / site / "evaluation" / "evaluation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result if isinstance(result, str) else json.dumps(result))
    return folder


def case(name, dice):
    return {"case": name, "patient": name, "metrics": {"prostate": {"dice": dice, "hd95_mm": None, "nsd": 0.5}}}


def test_a_whole_run(run_dir):
    run = read_run(run_dir)
    assert list(run.sites) == [f"site-{n}" for n in range(1, 7)]
    assert run.models == ["base", "global", "personal", "unseen"]
    assert [each.number for each in run.rounds] == [0, 1, 2, 3, 4]
    assert run.rounds[2].sites["site-4"].status == "missing"
    assert [len(run.overlays[site]) for site in run.sites] == [3] * 6
    score = run.evaluation["site-1"]["personal"]
    assert score.interval[0] <= score.score <= score.interval[1]
    assert score.patient_count == 3


def test_the_least_there_can_be_is_still_a_run(tmp_path):
    run = read_run(write(tmp_path, {"completed": False}))
    assert (run.sites, run.rounds, run.evaluation) == ([], [], {})
    assert "cut short after 0 rounds" in verdict(run)
    assert "There is no evaluation on test data." in warnings(run)
    assert "cut short" in summary_text(run)


def test_byte_order_marks_that_an_editor_left_are_no_error(tmp_path):
    write(write(tmp_path, {"completed": True}), {"personal": {"score": 0.5}}, "site-1")
    for file in tmp_path.rglob("*.json"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_run(tmp_path).evaluation["site-1"]["personal"].score == 0.5


def test_null_is_the_same_as_absent(tmp_path):
    names = ("rounds", "sites", "evaluation", "egress", "warnings", "base", "hardware", "versions", "seed", "format")
    rounds = [{"round": 0, "sites": {"site-1": {"status": "ok", "metrics": None}}}]
    facts = dict.fromkeys(names[:-1]) | {"completed": True, "rounds": rounds, "rounds_done": 1}
    run = read_run(write(tmp_path, facts))
    assert run.rounds[0].sites["site-1"].bytes_up == 0
    assert verdict(run).startswith("1 site trained together for 1 round.")


def test_summary_and_interval_come_from_the_cases_when_the_file_has_none(tmp_path):
    cases = [case("a", 0.5), case("b", 0.7), case("c", 0.9), case("d", 0.7)]
    run = read_run(write(tmp_path, to_json(TASK.scoring) | {"evaluation": {"site-1": {"personal": {"cases": cases}}}}))
    score = run.evaluation["site-1"]["personal"]
    assert score.score == pytest.approx(0.7)
    assert 0.5 <= score.interval[0] < 0.7 < score.interval[1] <= 0.9
    assert score.patient_count == 4


def test_a_sites_own_file_adds_to_the_servers(tmp_path):
    write(tmp_path, {"evaluation": {"site-1": {"base": {"score": 0.1}}, "site-10": {"base": {"score": 0.2}}}})
    write(tmp_path, {"personal": {"score": 0.8}, "overlays": [], "note": "not a model"}, site="site-2")
    run = read_run(tmp_path)
    assert list(run.sites) == ["site-1", "site-2", "site-10"]
    assert {s: list(m) for s, m in run.evaluation.items()} == {
        "site-1": ["base"],
        "site-2": ["personal"],
        "site-10": ["base"],
    }


def test_one_site_alone_can_make_its_page(maker, tmp_path):
    maker(tmp_path, sites=["site-2"], cases=1, overlays=False)
    shutil.rmtree(tmp_path / "server")
    run = read_run(tmp_path)
    assert "not the whole federation" in verdict(run)
    assert any("no server/result.json" in line for line in warnings(run))


def test_numbers_that_are_none_are_not_numbers(tmp_path):
    site = '{"status": "ok", "metrics": {"score_personal": NaN, "loss": Infinity}}'
    run = read_run(write(tmp_path, f'{{"rounds": [{{"round": 0, "sites": {{"s": {site}}}}}]}}'))
    assert run.rounds[0].sites["s"].metrics == {"score_personal": None, "loss": None}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"rounds": [', ["result.json", "not readable JSON", "stopped while writing"]),
        ("[1, 2]", ["result.json", "[1, 2]", "an object"]),
        ('{"format": 7}', ["result.json", "format 7", "expected 2"]),
        ('{"rounds": {"0": {}}}', ["rounds: found {'0': {}}", "expected a list"]),
        (
            '{"evaluation": {"s": {"base": {"cases": ["Case00"]}}}}',
            ["evaluation.s.base.cases[0]: found 'Case00'", "expected an object"],
        ),
        (
            '{"evaluation": {"s": {"base": {"cases": [{"metrics": {"a": 3}}]}}}}',
            ["evaluation.s.base.cases[0].metrics.a: found 3", "expected an object"],
        ),
        ('{"rounds": [3]}', ["result.json", "rounds[0]: found 3", "expected an object"]),
        ('{"round": 1}', ["result.json: round: found an unknown key", "rounds_planned"]),
    ],
)
def test_broken_files_are_named_with_what_was_expected(tmp_path, content, words):
    with pytest.raises(ReportError) as error:
        read_run(write(tmp_path, content))
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"personal": {', "not readable JSON"),
        ("[1]", "found [1], expected an object"),
        ('{"overlays": [3]}', "overlays[0]: found 3, expected an object"),
        ('{"personal": {"score": "good"}}', "personal.score: found 'good', expected a number"),
    ],
)
def test_a_broken_file_of_a_site_is_named_with_what_was_expected(tmp_path, content, words):
    with pytest.raises(ReportError) as error:
        read_run(write(tmp_path, content, site="site-1"))
    assert "site-1/evaluation/evaluation.json" in str(error.value)
    assert words in str(error.value)


def test_a_folder_without_any_result_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"neither server/result\.json nor"):
        read_run(tmp_path)


def test_overlays_outside_the_sites_folder_are_left_out_and_said(tmp_path, run_dir):
    secret = tmp_path / "secret.png"
    shutil.copy(run_dir / "site-1" / "evaluation" / "overlays" / "best.png", secret)
    listed = [{"file": "../../secret.png"}, {"file": str(secret)}, {"file": "overlays/none.png"}, {}]
    run = read_run(write(tmp_path, {"personal": {"score": 0.5}, "overlays": listed}, site="site-1"))
    assert run.overlays == {}
    assert sum("left out" in note for note in run.notes) == 4


def test_pictures_that_no_file_lists_are_found(tmp_path, run_dir):
    folder = tmp_path / "site-1" / "evaluation" / "overlays"
    folder.mkdir(parents=True)
    shutil.copy(run_dir / "site-1" / "evaluation" / "overlays" / "best.png", folder / "Case07.png")
    write(tmp_path, {"completed": True})
    assert [overlay.case for overlay in read_run(tmp_path).overlays["site-1"]] == ["Case07"]


@pytest.mark.parametrize("inner", ["workspace", ""])
def test_a_downloaded_job_is_read_like_the_servers_own_folder(tmp_path, run_dir, inner):
    download = tmp_path / "download"
    (download / inner).mkdir(parents=True)
    (download / inner / "result.json").write_bytes((run_dir / "server" / "result.json").read_bytes())
    found, whole = read_run(download), read_run(run_dir)
    assert found.result == whole.result
    assert found.sites == whole.sites
