"""The tests never touch the user's files: home and state lie in a folder of the session."""

import os
import subprocess
import sys
from pathlib import Path

import torch


def test_home_is_the_sessions_own(test_home: Path) -> None:
    assert Path.home() == test_home
    assert Path("~").expanduser() == test_home
    assert "sitelora-tests-" in test_home.name


def test_sitelora_and_nvflare_write_below_it(test_home: Path) -> None:
    for name in ("SITELORA_HOME", "SITELORA_DATA", "NVFLARE_POC_WORKSPACE", "MPLCONFIGDIR"):
        assert Path(os.environ[name]).is_relative_to(test_home), name


def test_processes_started_by_a_test_inherit_it(test_home: Path) -> None:
    code = "from pathlib import Path; import os; print(Path.home()); print(os.environ['SITELORA_HOME'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    home, state = map(Path, run.stdout.split())
    assert home == test_home
    assert state.is_relative_to(test_home)


def test_torch_runs_on_one_thread() -> None:
    assert torch.get_num_threads() == 1
