"""`sitelora predict`: a line a case, exit codes, and one sentence for a call that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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
