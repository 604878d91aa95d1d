"""The simulator ends with all that it started, and its runner starts light."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from sitelora.simulator.processes import ProcessFamily

SLEEPERS = """
import subprocess, sys, time
child = "import time; time.sleep(120)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(120)
"""


def test_ending_a_simulator_ends_workers_with_sessions_of_their_own(tmp_path: Path) -> None:
    me, deadline = psutil.Process(), time.monotonic() + 20
    others = me.children(recursive=True)  # of tests before this one
    family = ProcessFamily([sys.executable, "-c", SLEEPERS], folder=tmp_path, env=os.environ, log=tmp_path / "log")
    mine: list[psutil.Process] = []
    while len(mine) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        mine = [process for process in me.children(recursive=True) if process not in others]
    assert family.returncode() is None
    assert len(mine) == 2
    assert len(family.end()) == 1
    assert family.returncode() is not None
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in mine)


def test_the_runner_itself_needs_neither_torch_nor_monai_nor_nvflare() -> None:
    """It sits beside six sites and a server while they work; each of these costs it hundreds of megabytes."""
    code = (
        "import sys, sitelora.simulator.simulate; heavy = {'torch', 'monai', 'nvflare', 'numpy'} & set(sys.modules); "
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert run.returncode == 0
