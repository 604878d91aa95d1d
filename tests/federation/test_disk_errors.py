"""A home that is missing, in the way, or full: the message names the path, the reason and what to set.

Rights do not bind the superuser, so a file stands in the place of a folder; a full disk is a real limit of the system
on the size of files (RLIMIT_FSIZE), in a process of its own, and the device that is always full.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sitelora.federation.build_network import save_merged
from sitelora.federation.events import EventLog
from sitelora.federation.files import DiskError, append_line, new_folder, private_folder, write_json
from sitelora.federation.identity import site_secret
from sitelora.home import data_root, home

LIMITED = """
import resource, sys
from pathlib import Path
import torch
from sitelora.federation.build_network import save_merged
from sitelora.federation.files import DiskError, append_line, new_folder, save_tensors, write_json

write_json(Path("state/old.json"), {"kept": True})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
big = torch.nn.Linear(300, 300)

def fill():
    with new_folder(Path("state/round_000")) as folder:
        save_tensors(folder / "state.safetensors", dict(big.state_dict()))

for attempt in (
    lambda: save_tensors(Path("state/update.safetensors"), dict(big.state_dict())),
    fill,
    lambda: save_merged(big, Path("state/models/personal.pt")),
    lambda: write_json(Path("state/result.json"), {"text": "x" * 200_000}),
    lambda: append_line(Path("state/events.jsonl"), "x" * 200_000),
):
    try:
        attempt()
    except DiskError as error:
        print(error)
    else:
        print("written")
"""


def test_a_limit_of_the_system_is_told_with_path_size_and_remedy_whatever_writes(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    for line, file in zip(
        lines, ("update.safetensors", "state.safetensors", "personal.pt", "result.json", "events.jsonl"), strict=True
    ):
        assert file in line
        assert "File too large" in line
        assert "SITELORA_HOME" in line
        assert "needs 361 kB" in line or "needs 200 kB" in line
    kept = {path.name for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert kept - {"events.jsonl", "update.safetensors"} == {"old.json"}  # nothing half written under a final name


def test_a_file_in_the_place_of_the_home_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    attempts = (
        lambda: write_json(tmp_path / "home" / "run" / "x.json", {}),
        lambda: EventLog(tmp_path / "home" / "run", "site-1").write("left"),
        lambda: site_secret(tmp_path / "home"),
        lambda: save_merged(torch.nn.Linear(1, 1), tmp_path / "home" / "models" / "personal.pt"),
    )
    for attempt in attempts:
        with pytest.raises(DiskError, match=rf"{tmp_path}/home.* cannot be written: .*set SITELORA_HOME"):
            attempt()


def test_a_device_without_room_is_told_as_full() -> None:
    with pytest.raises(DiskError, match=r"/dev/full: No space left on device; writing it needs 5 bytes.*free some"):
        append_line(Path("/dev/full"), "line")


def test_an_error_that_is_no_matter_of_disks_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "evaluation"):
        (tmp_path / "missing_image.nii.gz").read_bytes()
    assert list(tmp_path.iterdir()) == []


NO_HOME = """
import os, pwd

def nobody(uid):
    raise KeyError(uid)

pwd.getpwuid = nobody  # as in a container whose user has no line in /etc/passwd
from sitelora.home import home, data_root

for asked in (home, data_root):
    try:
        asked()
    except ValueError as error:
        print(error)
"""


def test_without_a_home_folder_it_is_said_what_to_set() -> None:
    bare = {k: v for k, v in os.environ.items() if k not in ("HOME", "SITELORA_HOME", "SITELORA_DATA")}
    run = subprocess.run([sys.executable, "-c", NO_HOME], env=bare, capture_output=True, text=True)
    assert run.stdout.count("no home folder (HOME is not set") == 2, run.stderr
    assert "set SITELORA_HOME to an absolute path" in run.stdout


def test_with_a_home_variable_no_home_folder_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path))
    monkeypatch.delenv("SITELORA_DATA", raising=False)
    assert (home(), data_root()) == (tmp_path, tmp_path / "data")


def test_what_is_written_is_for_the_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_json(tmp_path / "home" / "run" / "x.json", {})
        EventLog(tmp_path / "home" / "run", "site-1").write("left")
        with new_folder(tmp_path / "home" / "run" / "evaluation") as folder:
            (folder / "predictions").mkdir()
            (folder / "predictions" / "case.png").write_text("x")
        save_merged(torch.nn.Linear(1, 1), tmp_path / "home" / "run" / "models" / "personal.pt")
        site_secret(tmp_path / "home")
        private_folder(tmp_path / "home" / "deep" / "er")
    finally:
        os.umask(before)
    for path in (tmp_path / "home", *(tmp_path / "home").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
