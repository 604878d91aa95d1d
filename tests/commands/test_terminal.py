"""What others wrote does not steer the terminal."""

import json
from pathlib import Path

import pytest

from sitelora.cli import main
from sitelora.commands._terminal import one_line, shown
from sitelora.flare.run_job import line_of

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202eall rounds\x7f are written\r"


def test_a_text_of_a_server_is_one_line_and_nothing_else() -> None:
    said = one_line(line_of("SUBMITTED", {}, {"schedule_history": [HOSTILE + "\nsecond"]}))
    assert said.isprintable()
    assert "all rounds  are written second" in said


def test_lines_and_columns_stay() -> None:
    assert shown("a  b\n\n  c\x1b[0m") == "a  b\n\n  c [0m"


def test_another_hospitals_bundle_is_listed_in_plain_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"line": "x", "task": "segmentation", "date": "2026-11-26", "uid": HOSTILE, "method": HOSTILE}
    file = tmp_path / "x_1_segmentation" / "configs" / "metadata.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"sitelora": told}))
    assert main(["models", str(tmp_path)]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_an_error_is_in_plain_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(tmp_path / HOSTILE)]) == 2
    assert capsys.readouterr().err.replace("\n", "").isprintable()
