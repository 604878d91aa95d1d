"""Rights do not bind the superuser, as whom tests may run: a process of its own that they do bind."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
_MAIN = """
import sys
from sitelora.cli import main
for one in sys.argv[1:]:
    print("code", main(one.split(" ")), flush=True)
"""


def bound(command: Sequence[str], *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that the rights of files bind; skip the test where the superuser cannot be bound here."""
    if os.geteuid() == 0:
        try:
            able = subprocess.run([*_BOUND, "true"], capture_output=True).returncode == 0
        except FileNotFoundError:
            able = False
        if not able:
            pytest.skip("RIGHTS NOT TESTED: this is the superuser, and there is no setpriv that takes its rights away")
        command = [*_BOUND, *command]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def said_by(*commands: str, repository: Path) -> subprocess.CompletedProcess[str]:
    """Run commands of ``sitelora``, words parted by one blank, one after the other in one process that rights bind."""
    env = {**os.environ, "PYTHONPATH": str(repository / "custom")}
    return bound([sys.executable, "-c", _MAIN, *commands], env=env)
