"""Which processes are a kit's, how they are ended, and what a crash has left; a script stands in for NVFlare's loop."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sitelora.site_kit.processes import end_all, processes_of, start, stop
from sitelora.site_kit.startup_kit import KitError, StartupKit

READY = """\
cd "$(dirname "$0")/.."
command -v python3 >python.txt
echo "2026-11-27 11:10:15,580 - FederatedClient - INFO - Successfully registered client:site-1" >>log.txt
sleep 300 & wait
"""


@pytest.fixture
def kit(kits: Path) -> Iterator[StartupKit]:
    kit = StartupKit.read(kits / "site-1")
    (kit.startup / "sub_start.sh").write_text(READY, encoding="utf-8")
    yield kit
    end_all(kit.path)


def test_a_kit_is_started_with_this_python_once_and_stopped(kit: StartupKit) -> None:
    for name in ("pid.fl", "daemon_pid.fl", "shutdown.fl"):  # what a crash leaves; NVFlare would refuse to start
        (kit.path / name).write_text("1", encoding="utf-8")
    assert start(kit, patience_s=30)
    assert (kit.path / "python.txt").read_text(encoding="utf-8").strip() == str(Path(sys.executable).parent / "python3")
    assert not list(kit.path.glob("*.fl"))
    assert (kit.path / "start.log").stat().st_mode & 0o077 == 0
    with pytest.raises(KitError, match=r"runs already \(process \d+\).*site stop"):
        start(kit, patience_s=1)
    there, killed = stop(kit, patience_s=10)
    assert there >= 2
    assert killed <= there
    assert processes_of(kit.path) == []
    assert not list(kit.path.glob("*.fl"))
    assert stop(kit, patience_s=1) == (0, 0)


def test_who_only_reads_a_log_there_is_left_alone(kit: StartupKit) -> None:
    log = kit.path / "log.txt"
    log.touch()
    reader = subprocess.Popen(["tail", "-f", str(log)])
    try:
        assert start(kit, patience_s=30)
        stop(kit, patience_s=10)
        time.sleep(0.1)
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.wait()


def test_one_kit_is_not_another_whose_name_begins_alike(kit: StartupKit) -> None:
    assert start(kit, patience_s=30)
    assert processes_of(kit.path)
    assert processes_of(kit.path.with_name("site")) == []
    assert processes_of(kit.path.parent)


def test_what_is_not_ready_is_said(kit: StartupKit) -> None:
    (kit.path / "log.txt").write_text("Successfully registered client:site-1 yesterday\n", encoding="utf-8")
    (kit.startup / "sub_start.sh").write_text("sleep 300 & wait\n", encoding="utf-8")
    assert not start(kit, patience_s=1)
