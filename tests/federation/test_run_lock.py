"""Who is at work in a run: a second process is refused at once, a dead one holds nobody up, every end is noted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from own_signals import hear_signals
from sitelora.federation.run_lock import Holder, RunningError, require_idle, working

HOLDING = """
import sys, time
from pathlib import Path
from sitelora.federation.run_lock import working
told = Path(sys.argv[1]).parent / "stopped"
with working(Path(sys.argv[1]), "the run", stopped=lambda reason: told.write_text(reason) and None):
    print("holding", flush=True)
    time.sleep(600)
"""


def holding(lock: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(lock)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_a_second_process_is_refused_with_who_holds_it_and_a_killed_one_is_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / "server" / "lock.json"
    process = holding(lock)
    try:
        began = time.strftime("%Y-%m-%d")
        for attempt in (lambda: working(lock, "the run").__enter__(), lambda: require_idle([lock], "the run")):
            with pytest.raises(RunningError, match=rf"the run is running \(pid {process.pid}, since {began}"):
                attempt()
        holder = Holder.read(lock)
        assert holder is not None
        assert (holder.pid, holder.working()) == (process.pid, True)
    finally:
        process.kill()
        process.wait()
    killed = Holder.read(lock)
    assert killed is not None
    assert (killed.pid, killed.ended, killed.working()) == (process.pid, None, False)  # it could say nothing
    require_idle([lock], "the run")
    with working(lock, "the run"):
        mine = Holder.read(lock)
        assert mine is not None
        assert (mine.pid, mine.working()) == (os.getpid(), True)
    done = Holder.read(lock)
    assert done is not None
    assert done.ended is not None
    assert (done.reason, done.working()) == ("", False)


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGTERM, "ended by SIGTERM"), (signal.SIGINT, "on request")])
def test_a_signal_is_noted_and_ends_the_process_as_ever(tmp_path: Path, number: int, reason: str) -> None:
    lock = tmp_path / "server" / "lock.json"
    process = holding(lock)
    process.send_signal(number)
    assert process.wait() == -number
    holder = Holder.read(lock)
    assert holder is not None
    assert reason in holder.reason
    assert holder.ended is not None
    assert reason in (tmp_path / "server" / "stopped").read_text()


def test_an_error_is_noted_and_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(LookupError), working(tmp_path / "lock.json", "the run", stopped=told.append):
        raise LookupError("no such case")
    assert told == ["LookupError: no such case"]
    holder = Holder.read(tmp_path / "lock.json")
    assert holder is not None
    assert holder.reason == "LookupError: no such case"
    with working(tmp_path / "lock.json", "the run", stopped=told.append):
        pass
    assert told == ["LookupError: no such case"]


def test_in_one_process_two_parts_do_not_work_on_one_run_either(tmp_path: Path) -> None:
    with working(tmp_path / "lock.json", "first"):
        with pytest.raises(RunningError, match=rf"second is running \(pid {os.getpid()}"):
            working(tmp_path / "lock.json", "second").__enter__()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_id_that_was_given_out_again_and_another_host_are_known(tmp_path: Path) -> None:
    here = Holder.here()
    assert here.alive() is True
    reused = Holder(pid=here.pid, host=here.host, started=here.started - 1000, since=here.since)
    assert reused.alive() is False
    elsewhere = Holder(pid=1, host="another-machine", started=0, since=0)
    assert (elsewhere.alive(), elsewhere.working()) == (None, None)
    assert "on another-machine" in str(elsewhere)
    (tmp_path / "lock.json").write_text("half a li")
    assert Holder.read(tmp_path / "lock.json") is None
