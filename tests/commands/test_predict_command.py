"""`sitelora predict`: a line a case, exit codes, and one sentence for a call that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rights import said_by
from sitelora.cli import main
from sitelora.commands.predict import duration, line
from sitelora.serving.many_images import Case


def test_a_line_a_case_and_exit_code_1_with_a_bad_file_in_the_middle(
    model: Path, scan: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, last = scan(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz", scan(tmp_path / "c.nii.gz")
    bad.write_text("no volume")
    out = tmp_path / "out"
    assert main(["predict", str(model), str(good), str(bad), str(last), "--out", str(out), "--device", "cpu"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"[1/3] {good} -> {out / 'a_seg.nii.gz'} (")
    assert "left)" in lines[0]
    assert lines[1].startswith(f"[2/3] ! {bad} refused: found a file that is not readable")
    assert lines[2].startswith(f"[3/3] {last} -> {out / 'c_seg.nii.gz'} (")
    assert said.err.strip().endswith("2 of 3 images done, 1 refused")
    assert main(["predict", str(model), str(good), "--out", str(tmp_path / "other"), "--device", "cpu"]) == 0


@pytest.mark.parametrize("wrong", ["model", "cut", "partial", "device", "image", "out", "empty"])
def test_a_wrong_call_is_one_sentence(
    wrong: str, model: Path, scan: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out, extra = scan(tmp_path / "a.nii.gz"), tmp_path / "out", []
    if wrong == "model":
        model = tmp_path / "absent.pt"
    if wrong == "cut":
        content = model.read_bytes()
        model = tmp_path / "cut.pt"
        model.write_bytes(content[: len(content) // 2])
    if wrong == "partial":
        content = torch.load(model, weights_only=True)
        decoder = {name: value for name, value in content["model"].items() if name.startswith("mask_decoder")}
        model = tmp_path / "partial.pt"
        torch.save({**content, "model": decoder}, model)
    if wrong == "device":
        extra = ["--device", "cuda:99"]
    if wrong == "out":
        out.touch()
    if wrong == "empty":
        image = tmp_path / "empty"
        image.mkdir()
    if wrong == "image":
        image = tmp_path / "absent.nii.gz"
    code = main(["predict", str(model), str(image), "--out", str(out), *extra])
    said = capsys.readouterr()
    if wrong == "image":  # one of perhaps many
        assert code == 1
        assert "no such file" in said.out
        return
    assert code == 2
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("sitelora predict: ")
    words = {"model": "no model at", "cut": "is no model", "partial": "is missing", "device": "not usable"}
    assert {**words, "out": "is a file", "empty": "holds no file"}[wrong] in said.err


def test_a_line_stays_one_line_whatever_a_file_is_called() -> None:
    case = Case(number=1, of=2, image=Path("a\n\x1b[31m.nii"), refused="no", seconds=0.04, left=4000)
    assert line(case) == "[1/2] ! a  [31m.nii refused: no (0.0 s, about 67 min left)"
    assert [duration(seconds) for seconds in (0.1, 59, 61, 6000)] == ["1 s", "59 s", "1 min", "1.7 h"]


def test_what_this_user_may_not_read_or_write_is_named_with_the_remedy(
    model: Path, scan: Callable[..., Path], tmp_path: Path, repository: Path
) -> None:
    folder, out, place, hidden = (tmp_path / name for name in ("in", "out", "place", "hidden"))
    good, shut, closed = scan(folder / "a.nii.gz"), scan(folder / "b.nii.gz"), scan(folder / "c" / "1.nii").parent
    (folder / "x.dcm").touch()
    other = tmp_path / "personal.pt"
    other.write_bytes(model.read_bytes())
    for path in (shut, closed, other):
        path.chmod(0)
    place.mkdir(mode=0o555)
    hidden.mkdir(mode=0)
    run = said_by(
        *(f"predict {model} {good} --out {one} --device cpu" for one in (place, place / "o")),
        *(f"predict {one} {good} --out {out} --device cpu" for one in (other, hidden / "personal.pt")),
        f"predict {model} {folder} --out {out} --device cpu",
        repository=repository,
    )
    assert [line for line in run.stdout.splitlines() if line.startswith("code")] == ["code 2"] * 4 + ["code 1"]
    for said, one in zip(run.stderr.splitlines()[:2], (place, place / "o"), strict=True):
        assert f"{one} cannot be written: Permission denied; give this user the right, or name with --out" in said
    for said, one in zip(run.stderr.splitlines()[2:4], (other, hidden / "personal.pt"), strict=True):
        assert f"{one} is a file that this user may not read; give this user the right to read it" in said
        assert "copy it again" not in said
    first, second, third, _ = run.stdout.splitlines()[4:]
    assert first.startswith(f"[1/3] {good} -> {out / 'a_seg.nii.gz'} (")
    assert second.startswith(f"[2/3] ! {shut} refused: found a file that this user may not read, expected a readable")
    assert "; give this user the right to read it" in second
    assert third.startswith(f"[3/3] ! {closed} refused: found a folder that cannot be read (Permission denied)")
    others, told = run.stderr.splitlines()[-2:]
    assert others.startswith("1 other file left out: 1 DICOM; ")
    assert told == "1 of 3 images done, 2 refused"


def test_a_request_to_end_leaves_nothing_of_an_image(
    model: Path, scan: Callable[..., Path], tmp_path: Path, repository: Path
) -> None:
    one = scan(tmp_path / "in" / "0.nii.gz")
    for number in range(1, 400):
        os.link(one, one.with_name(f"{number}.nii.gz"))
    words = ["predict", str(model), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": str(repository / "custom")}
    process = subprocess.Popen(
        [sys.executable, "-m", "sitelora.cli", *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("[1/400]")
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "sitelora: stopped"
    assert not list((tmp_path / "out").glob(".*"))
    assert list((tmp_path / "out").iterdir())
