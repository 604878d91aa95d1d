"""What is held of a patient while an image is predicted goes with the process, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from own_signals import hear_signals
from sitelora.serving.scratch import scratch_in

HOLD = """
import sys, time
from pathlib import Path
from sitelora.serving.scratch import scratch_in
from sitelora.stopping import stops_as_interrupt
with stops_as_interrupt(), scratch_in(Path(sys.argv[1]), elsewhere="name with --out a folder") as held:
    (held / "volume.nii").write_text("a patient")
    print(flush=True)
    time.sleep(60)
"""
ELSEWHERE = "name with --out a folder"


@pytest.fixture
def holding(tmp_path: Path, repository: Path) -> subprocess.Popen[str]:
    """A process that holds a folder in ``tmp_path``."""
    env = {**os.environ, "PYTHONPATH": str(repository / "custom")}
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=hear_signals
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_request_to_end_removes_it(number: int, holding: subprocess.Popen[str], tmp_path: Path) -> None:
    assert len(list(tmp_path.iterdir())) == 1
    holding.send_signal(number)
    holding.wait(30)
    assert list(tmp_path.iterdir()) == []


def test_the_next_call_removes_what_a_killed_process_left_and_nothing_of_one_at_work(
    holding: subprocess.Popen[str], tmp_path: Path
) -> None:
    (theirs,) = tmp_path.iterdir()
    with scratch_in(tmp_path, elsewhere=ELSEWHERE) as held:
        assert set(tmp_path.iterdir()) == {theirs, held}
        assert held.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == [theirs]
    holding.kill()
    holding.wait(30)
    assert (theirs / "volume.nii").exists(), "nobody can clear up after kill -9"
    with scratch_in(tmp_path, elsewhere=ELSEWHERE) as held:
        assert list(tmp_path.iterdir()) == [held]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_lock_is_left_for_a_day(tmp_path: Path) -> None:
    new, old = tmp_path / ".predict-new", tmp_path / ".predict-old"
    for folder in (new, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    with scratch_in(tmp_path, elsewhere=ELSEWHERE):
        assert new.exists()
        assert not old.exists()


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` wants it."""
    from sitelora.stopping import stops_as_interrupt

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
