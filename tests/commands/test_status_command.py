import json
import subprocess
import sys
import time

import pytest

from sitelora.cli import main
from sitelora.commands.status import ago, clock

LIGHT = """
import sys
from sitelora.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "monai", "nvflare", "numpy", "nibabel", "matplotlib", "ignite"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@pytest.fixture
def home(tmp_path):
    """Two runs: one finished, one in its second round of three, whose second site is silent."""
    now = time.time()
    done = tmp_path / "lungs" / "20260101-000000-aaaaaaaa" / "server"
    done.mkdir(parents=True)
    result = {"completed": True, "rounds_done": 3, "rounds_planned": 3, "method": "iat", "dataset": "lungs"}
    (done / "result.json").write_text(json.dumps({**result, "sites": {"site-1": {}}}))
    server = tmp_path / "prostate" / "20260102-000000-bbbbbbbb" / "server"
    server.mkdir(parents=True)
    events = [
        {
            "time": now - 300,
            "event": "federation_started",
            "sites": ["site-1", "site-2"],
            "rounds": 3,
            "first_round": 0,
        },
        {"time": now - 200, "event": "round_started", "round": 1},
        {"time": now - 180, "event": "update", "round": 1, "site": "site-1", "status": "ok"},
    ]
    (server / "events.jsonl").write_text("".join(json.dumps({"who": "server", **event}) + "\n" for event in events))
    return tmp_path


def test_all_runs_are_a_table_the_newest_last(home, capsys):
    assert main(["status", "--home", str(home)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "rounds", "last", "sign", "of", "life", "method", "data"]
    assert lines[1].split()[:5] == ["lungs/20260101-000000-aaaaaaaa", "finished", "3", "of", "3"]
    assert lines[2].split()[:5] == ["prostate/20260102-000000-bbbbbbbb", "running", "0", "of", "3"]


def test_one_run_says_who_is_late_and_json_says_the_same(home, capsys):
    assert main(["status", "prostate", "--home", str(home)]) == 0
    text = capsys.readouterr().out
    assert "running: 0 of 3 rounds done" in text
    assert "waits for site-2" in text
    assert "late: site-2: its update takes 20" in text
    assert main(["status", "prostate", "--home", str(home), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["who"] for each in told["participants"] if each["late"]] == ["site-2"]


def test_nothing_there_is_said(tmp_path, capsys):
    assert main(["status", "--home", str(tmp_path)]) == 0
    assert f"no run in {tmp_path}" in capsys.readouterr().out
    assert main(["status", "nothing", "--home", str(tmp_path)]) == 2


def test_it_starts_without_anything_heavy(home):
    command = [sys.executable, "-c", LIGHT, "status", "prostate", "--home", str(home)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_times_are_as_people_say_them():
    now = time.mktime((2026, 1, 2, 12, 0, 0, 0, 0, -1))
    told = {0: "0 s ago", 119: "119 s ago", 120: "2 min ago", 7200: "2 h ago", 200_000: "2 d ago"}
    assert {seconds: ago(now - seconds, now) for seconds in told} == told
    assert ago(None, now) == "never"
    assert (clock(now - 60, now), clock(now - 86_400, now), clock(None, now)) == ("11:59:00", "2026-01-01 12:00", "–")


def test_a_folder_that_is_no_run_is_refused_and_a_text_of_a_run_steers_no_terminal(home, capsys, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    assert main(["status", str(tmp_path / "elsewhere")]) == 2
    assert "holds nothing that a run leaves, expected HOME/<federation>/<uid>" in capsys.readouterr().err
    events = home / "prostate" / "20260102-000000-bbbbbbbb" / "server" / "events.jsonl"
    with events.open("a") as stream:
        stream.write(json.dumps({"time": time.time(), "event": "stopped", "reason": "first\n\x1b[2Jsecond"}) + "\n")
    (events.parent / "lock.json").unlink(missing_ok=True)
    assert main(["status", "prostate", "--home", str(home)]) == 1
    out = capsys.readouterr().out
    assert "stopped: first  [2Jsecond" in out.replace("\n", " ")
    assert "\x1b" not in out
