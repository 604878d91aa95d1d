"""Values that are typed: a file is meant from where it is typed, whatever folder processes are started in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sitelora.cli import main
from sitelora.commands._values import from_here
from sitelora.method_registry import with_arguments


def test_a_file_that_is_there_is_told_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.pt", "vit_b"):
        Path(name).touch()
    given = {"base": "model.pt", "arch": "vit_b", "rank": 4, "other": "none.pt", "method": "my.method"}
    assert from_here(given) == {**given, "base": os.path.join(os.getcwd(), "model.pt")}


@pytest.mark.parametrize("command", [["egress", "iat_segmentation"], ["compare", "--dataset", "lungs"]])
@pytest.mark.parametrize("second", ["4", "2"])
def test_an_id_that_is_set_twice_is_an_error_that_names_both(
    command: list[str], second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--set", "method#rank=2", "--set", "learning_rate=1", "--set", f"method#rank={second}"])
    assert ended.value.code == 2
    told = f"found method#rank=2 and method#rank={second}, expected every id once; remove one of them"
    assert told in capsys.readouterr().err


def test_an_argument_of_a_method_that_is_given_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="found rank twice in 'iat\\+rank=2\\+rank=4', expected every argument once"):
        with_arguments("iat+rank=2+rank=4")
