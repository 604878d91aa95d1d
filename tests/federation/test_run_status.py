"""Where a run stands, from folders as runs leave them: in the middle, killed, finished, resumed, seen from one site."""

import json
import os
import shutil
import socket
import subprocess
import sys

import psutil
import pytest

from sitelora.federation.run_lock import require_idle
from sitelora.federation.run_status import ENDED, FAILED, FINISHED, RUNNING, SILENT, run_status

BEGAN = 1_800_000_000.0
SITES = ("site-1", "site-2", "site-10")


def log(run, who, *events):
    """Append events, each ``(seconds after the beginning, name, fields)``."""
    folder = run / who
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl").open("a") as stream:
        for at, name, fields in events:
            stream.write(json.dumps({"time": BEGAN + at, "who": who, "event": name, **fields}) + "\n")


def begun(at=0, first=0):
    return at, "federation_started", {"federation": "f", "uid": "u", "sites": SITES, "rounds": 3, "first_round": first,
                                      "method": "iat", "dataset": "prostate"}  # fmt: skip


def update(at, site, number=0, status="ok", **fields):
    return at, "update", {"round": number, "site": site, "status": status, **fields}


@pytest.fixture
def run(tmp_path):
    """A run in its first round: two sites have answered after 10 and 14 s, the third trains."""
    folder = tmp_path / "f" / "u"
    log(folder, "server", begun(), (5, "begun", {}), (10, "round_started", {"round": 0}))
    log(folder, "server", update(20, "site-1"), update(24, "site-2"))
    for site in SITES:
        log(folder, site, (11, "task_started", {"task": "train", "round": 0}))
        log(folder, site, (12, "step", {"round": 0, "step": 3, "steps": 12, "loss": 0.5}))
    for site, at in (("site-1", 19), ("site-2", 23)):
        log(folder, site, (at, "task_finished", {"task": "train", "round": 0}))
    return folder


def lock(run, **fields):
    told = {"host": socket.gethostname(), "since": BEGAN, "ended": None, "reason": ""}
    (run / "lock.json").write_text(json.dumps(told | fields))


def of(status):
    return {each.who: each for each in status.participants}


def test_who_does_what_in_which_round_since_when(run):
    status = run_status(run, now=BEGAN + 30)
    assert (status.state, status.rounds_done, status.rounds_planned) == (RUNNING, 0, 3)
    assert (status.federation, status.uid, status.method, status.dataset) == ("f", "u", "iat", "prostate")
    assert [each.who for each in status.participants] == ["server", *SITES]
    assert of(status)["server"].doing == "waits for site-10"
    assert of(status)["server"].since == BEGAN + 10
    assert of(status)["site-10"].doing == "trains, step 3 of 12"
    assert (of(status)["site-10"].round_number, of(status)["site-10"].since) == (0, BEGAN + 11)
    assert of(status)["site-1"].doing == "has sent its update"
    assert status.seen == BEGAN + 24
    assert not status.go_on


@pytest.mark.parametrize(("after", "late"), [(40, ""), (47, "its update takes 37 s, the others' median is 12 s")])
def test_an_update_is_late_after_three_times_the_median_of_the_others(run, after, late):
    assert {each.who: each.late for each in run_status(run, now=BEGAN + after).participants if each.late} == (
        {"site-10": late} if late else {}
    )


def test_where_nobody_has_answered_the_rounds_before_say_what_is_late(run):
    log(run, "server", update(25, "site-10"), (26, "round_finished", {"round": 0}), (30, "round_started", {"round": 1}))
    assert not [each for each in run_status(run, now=BEGAN + 70).participants if each.late]
    late = [each.late for each in run_status(run, now=BEGAN + 75).participants if each.late]
    assert late == ["its update takes 45 s, the others' median is 14 s"] * 3


def test_a_site_at_work_that_gives_no_sign_is_late_before_anybody_answers(run):
    folder = run.parent / "v"
    log(folder, "server", begun(), (10, "round_started", {"round": 0}))
    log(folder, "site-1", (11, "task_started", {"task": "train", "round": 0}))
    lock(folder, pid=os.getpid(), started=psutil.Process().create_time())
    assert of(run_status(folder, now=BEGAN + 600))["site-1"].late == ""
    assert of(run_status(folder, now=BEGAN + 700))["site-1"].late == "no sign of life for 689 s"


def test_a_missing_site_and_a_failed_one_are_told(run):
    log(run, "server", update(40, "site-10", status="missing", reason="no answer within 30 s"))
    log(run, "site-2", (41, "error", {"error": "disk full"}))
    found = of(run_status(run, now=BEGAN + 50))
    assert found["site-2"].doing == "failed: disk full"
    log(run, "site-10", (42, "task_finished", {"task": "train", "round": 0}))
    assert of(run_status(run, now=BEGAN + 50))["site-10"].doing == "missing: no answer within 30 s"


def test_the_lock_says_whether_the_process_lives(run):
    mine = psutil.Process().create_time()
    lock(run, pid=os.getpid(), started=mine)
    assert run_status(run, now=BEGAN + 90_000).state == RUNNING
    lock(run, pid=os.getpid(), started=mine - 50)  # the id was given out again
    status = run_status(run, now=BEGAN + 30)
    assert status.state == ENDED
    assert f"process {os.getpid()} on {socket.gethostname()} is gone" in status.why
    lock(run, pid=1, host="elsewhere", started=mine)
    assert run_status(run, now=BEGAN + 30).state == SILENT
    lock(run, pid=os.getpid(), started=mine, ended=BEGAN + 29, reason="ended by SIGTERM")
    assert (run_status(run, now=BEGAN + 30).state, run_status(run, now=BEGAN + 30).why) == (ENDED, "ended by SIGTERM")


def test_a_killed_process_is_gone_and_the_way_on_is_said(run):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    lock(run, pid=process.pid, started=psutil.Process(process.pid).create_time())
    assert run_status(run, now=BEGAN + 30).state == RUNNING
    process.kill()
    process.wait()
    assert run_status(run, now=BEGAN + 30).go_on == "no round is written: begin anew with another uid"
    (run / "server" / "round_001").mkdir()
    (run / "server" / "round_001" / "manifest.json").write_text('{"round": 0}')
    status = run_status(run, now=BEGAN + 30)
    assert (status.state, status.rounds_done) == (ENDED, 1)
    assert status.go_on == 'submit the job of f again with "uid": "u" and "resume": true'
    (run / "job" / "iat_prostate").mkdir(parents=True)
    assert run_status(run, now=BEGAN + 30).go_on.startswith("sitelora simulate JOB --uid u --resume")
    (run / "stopped.json").write_text("{}")
    assert run_status(run, now=BEGAN + 30).go_on == "the same sitelora simulate command goes on with it"


def test_without_a_lock_long_silence_is_said(run):
    assert run_status(run, now=BEGAN + 24 + 599).state == RUNNING
    status = run_status(run, now=BEGAN + 24 + 601)
    assert (status.state, status.why) == (SILENT, "no result and no sign of life since 601 s ago")


@pytest.mark.parametrize(("error", "state"), [("", FINISHED), ("too few sites: 1 of 3", FAILED)])
def test_the_end_of_a_run_is_told_and_a_resumed_one_is_in_work_again(run, error, state):
    result = {"completed": not error, "error": error, "rounds_done": 2, "rounds_planned": 3, "sites": {"site-1": {}}}
    (run / "server" / "result.json").write_text(json.dumps(result))
    os.utime(run / "server" / "result.json", (BEGAN + 60, BEGAN + 60))
    log(run, "server", (60, "finished", {"completed": not error, "error": error, "rounds_done": 2}))
    status = run_status(run, now=BEGAN + 90_000)
    assert (status.state, status.why, status.rounds_done) == (state, error or "all rounds are done", 2)
    assert not [each for each in status.participants if each.late]
    log(run, "server", begun(at=90, first=2), (95, "round_started", {"round": 2}))
    assert run_status(run, now=BEGAN + 100).state == RUNNING


def test_a_result_without_events_is_enough_and_a_site_sees_itself(tmp_path):
    alone = tmp_path / "f" / "u" / "site-1"
    log(alone.parent, "site-1", (5, "task_started", {"task": "evaluate", "round": 3}))
    status = run_status(alone.parent, now=BEGAN + 6)
    assert [each.doing for each in status.participants] == ["scores the models"]
    assert (status.state, status.rounds_planned) == (RUNNING, None)
    in_process = tmp_path / "f" / "v"
    (in_process / "server").mkdir(parents=True)
    result = {"completed": True, "rounds_done": 3, "rounds_planned": 3, "sites": {"a": {}}, "federation": "f"}
    (in_process / "server" / "result.json").write_text(json.dumps(result))
    status = run_status(in_process)
    assert (status.state, status.rounds_done, [each.who for each in status.participants]) == (FINISHED, 3, ["a"])


def test_a_line_cut_by_a_crash_and_a_broken_result_do_no_harm(run):
    with (run / "site-10" / "events.jsonl").open("a") as stream:
        stream.write('{"time": 18000')
    (run / "server" / "result.json").write_text('{"completed": tr')
    assert of(run_status(run, now=BEGAN + 30))["site-10"].doing == "trains, step 3 of 12"


def test_a_server_that_works_on_counts_where_the_command_that_started_it_was_killed(run):
    lock(run, pid=os.getpid(), started=5.0)  # an id that was given out again: the command is gone
    told = {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": socket.gethostname(), "since": BEGAN}
    (run / "server" / "lock.json").write_text(json.dumps({**told, "ended": None, "reason": ""}))
    status = run_status(run, now=BEGAN + 30)
    assert (status.state, status.why) == (RUNNING, f"process {os.getpid()} on {socket.gethostname()} lives")


DEEP = "[" * 200_000
PIDS = ("-1", "0", "true", "1e9", '"5"', str(10**25))
ODD_LOCKS = [
    *(DEEP, "", "[]", "\0", '{"pid": -1}'),
    *(f'{{"pid": {pid}, "host": "h", "started": 1, "since": 1}}' for pid in PIDS),
    '{"pid": 1, "host": "h", "started": 1, "since": 1e30}',
    '{"pid": 1, "host": "h", "started": "x", "since": 1}',
]


@pytest.mark.parametrize("text", ODD_LOCKS, ids=[text[:40] for text in ODD_LOCKS])
def test_a_lock_of_no_possible_process_tells_nothing(run, text):
    (run / "lock.json").write_text(text)
    assert run_status(run, now=BEGAN + 30).state == RUNNING
    require_idle([run / "lock.json"], "the run")


ODD_FIELDS = (
    *('["a"]', '"round_started"', '"round_started", "round": "a"', '"update"', '"task_started"', '"step"'),
    *('"task_finished"', '"finished"', '"stopped", "reason": 5', '"federation_started", "sites": 5'),
    *('"federation_started", "sites": [1, null]', '"federation_started", "rounds": "x"'),
)
ODD_EVENTS = [
    *(DEEP, '{"time": NaN, "event": "begun"}', '{"time": 1e999, "event": "begun"}', '{"time": true, "event": "x"}'),
    '{"time": 1e30, "event": "begun"}',
    *(f'{{"time": {BEGAN}, "event": {fields}}}' for fields in ODD_FIELDS),
]


@pytest.mark.parametrize("line", ODD_EVENTS, ids=[line[-60:] for line in ODD_EVENTS])
def test_an_event_that_is_none_of_ours_hides_no_other(run, line):
    for who in ("server", "site-2"):
        with (run / who / "events.jsonl").open("a") as stream:
            stream.write(f"{line}\n")
    found = of(run_status(run, now=BEGAN + 30))
    assert {"server", "site-1", "site-2", "site-10"} <= set(found)
    shutil.rmtree(run / "site-1")
    (run / "site-1" / "events.jsonl").mkdir(parents=True)
    assert run_status(run, now=BEGAN + 30).participants
