"""Values that are typed: a file is meant from where it is typed, whatever folder processes are started in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sitelora.commands._values import from_here


def test_a_file_that_is_there_is_told_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.pt", "vit_b"):
        Path(name).touch()
    given = {"base": "model.pt", "arch": "vit_b", "rank": 4, "other": "none.pt", "method": "my.method"}
    assert from_here(given) == {**given, "base": os.path.join(os.getcwd(), "model.pt")}
