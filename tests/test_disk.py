"""What cannot be written says which place, why and what to do, in every command; what cannot be read is another's."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from own_signals import hear_signals
from rights import bound, said_by
from sitelora.cli import main
from sitelora.disk import GIVE_RIGHT, DiskError, filling, saying

LIMITED = """
import resource, sys
from sitelora.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
sys.exit(main(sys.argv[1:]))
"""


def test_what_is_written_is_told_however_deep_a_library_has_wrapped_it(tmp_path: Path) -> None:
    def wrapped(error: OSError) -> None:
        try:
            try:
                raise error
            except OSError as inner:
                raise RuntimeError("applying transform") from inner
        except RuntimeError as outer:
            raise RuntimeError("applying transforms") from outer

    part, shown = tmp_path / "part", tmp_path / "out"
    for error in (OSError(errno.ENOSPC, "full"), PermissionError(errno.EACCES, "closed", str(part / "mask.nii"))):
        with (
            pytest.raises(DiskError, match=rf"{shown}.*, or name with --out a folder (on|that)"),
            filling(part, shown=shown, elsewhere="name with --out a folder"),
        ):
            wrapped(error)
    for other in (PermissionError(errno.EACCES, "closed", str(tmp_path / "in.nii")), FileNotFoundError(2, "no")):
        with pytest.raises(RuntimeError, match="applying transforms"), filling(part, shown=shown):
            wrapped(other)
    with pytest.raises(DiskError, match="one"), filling(part, shown=shown):
        raise DiskError(errno.ENOSPC, "one that is said already")


def test_free_room_is_told_of_a_place_that_is_not_there_yet() -> None:
    with pytest.raises(DiskError, match=r"new/out: full, .* are free there"), saying(Path("new/out")):
        raise OSError(errno.ENOSPC, "full")


def test_a_closed_folder_is_named_with_the_remedy_by_every_command_that_writes(
    tmp_path: Path, repository: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    commands = {
        f"prepare prostate_phantom --site site-1 --out {closed}/o": f"{closed}/o/prostate/site-1",
        f"bundle iat_segmentation --out {closed}/o": f"{closed}/o/iat_segmentation",
        f"privacy iat_prostate --out {closed}/page.md": f"{closed}/page.md",
        f"site project --server me --sites a,b --admin a@b.c --lead l@b.c --out {closed}/p.yml": f"{closed}/p.yml",
    }
    run = said_by(*commands, repository=repository)
    assert run.stdout.splitlines() == ["code 2"] * len(commands), run.stderr
    for line, place in zip(run.stderr.splitlines(), commands.values(), strict=True):
        assert f"{place} cannot be written: Permission denied; give this user the right, or name with --out" in line


@pytest.mark.parametrize("command", ["prepare", "bundle"])
def test_a_full_disk_is_named_with_its_room_and_the_remedy(command: str, tmp_path: Path, repository: Path) -> None:
    words = {
        "prepare": ["prepare", "prostate_phantom", "--site", "site-1"],
        "bundle": ["bundle", "iat_segmentation"],
    }[command]
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, *words, "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(repository / "custom")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2, run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(f"sitelora {command}: {tmp_path / 'out'}/")
    assert "File too large, " in last
    assert "are free there; free some or raise the limit, or name with --out" in last
    assert not [path for path in tmp_path.rglob(".*")], "no part of a site folder is left"


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["bundle", "iat_segmentation", "--out", str(tmp_path / "file")]) == 2
    assert "iat_segmentation cannot be written: Not a directory" in capsys.readouterr().err


def test_a_request_to_end_leaves_no_part_of_a_site_folder(tmp_path: Path, repository: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "sitelora.cli", "prepare", "prostate_phantom", "--site", "site-1", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(repository / "custom")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
    )
    while not list(out.rglob(".site-1.partial-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "sitelora: stopped"
    assert not list(out.rglob(".site-1.partial-*"))


BELOW = """
import sys
from pathlib import Path
from sitelora.disk import below

print([path.name for path in below(Path(sys.argv[1]), "*.cfg")], flush=True)
(Path(sys.argv[1]) / "b").chmod(0)
try:
    below(Path(sys.argv[1]), "*.cfg")
except PermissionError as error:
    print(error)
"""


def test_what_is_below_a_folder_is_all_of_it_or_an_error_that_names_what_is_closed(
    tmp_path: Path, repository: Path
) -> None:
    for name in ("b/two.cfg", "a/one.cfg", "a/other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    run = bound([sys.executable, "-c", BELOW, str(tmp_path)], env={"PYTHONPATH": str(repository / "custom")})
    first, second = run.stdout.splitlines()
    assert first == "['one.cfg', 'two.cfg']"
    assert second == f"{tmp_path / 'b'} is a folder that this user may not read; {GIVE_RIGHT}"


def test_a_closed_folder_of_a_public_data_set_is_no_patient_fewer(tmp_path: Path, repository: Path) -> None:
    for patient in ("patient001", "patient002"):
        (tmp_path / "acdc" / patient).mkdir(parents=True)
    (tmp_path / "acdc" / "patient002").chmod(0)
    run = said_by(f"prepare acdc --source {tmp_path / 'acdc'} --out {tmp_path / 'out'}", repository=repository)
    assert f"{tmp_path / 'acdc' / 'patient002'} is a folder that this user may not read; {GIVE_RIGHT}" in run.stderr
    assert not (tmp_path / "out").exists()
