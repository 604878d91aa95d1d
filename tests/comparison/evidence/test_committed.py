"""The benchmark's committed pages are what its committed runs say, and every run says how it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sitelora.comparison.evidence.alone import LARGEST
from sitelora.comparison.evidence.pages import write_pages

RESULTS = Path(__file__).parents[3] / "docs" / "results"
RUNS = sorted((RESULTS / "evidence" / "runs").glob("*/*/*.json"))
SECONDS = sorted((RESULTS / "evidence" / "seconds").glob("*/*/*.json"))


@pytest.mark.skipif(not RUNS, reason="NOT TESTED: no run of the benchmark is committed yet")
def test_pages_are_what_the_files_say(tmp_path: Path) -> None:
    for kind in ("runs", "seconds"):
        shutil.copytree(RESULTS / "evidence" / kind, tmp_path / "evidence" / kind)
    for page in write_pages(tmp_path):
        committed = RESULTS / page.relative_to(tmp_path)
        assert committed.read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), (
            f"{committed.name} was edited or is old: sitelora evidence --only-page --out docs/results"
        )


@pytest.mark.parametrize("file", SECONDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_seconds_are_of_a_quiet_machine_and_say_which(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    timed = json.loads(text)
    assert timed["others_cores"] < LARGEST
    assert timed["hardware"]["processor"]
    assert "uncommitted" not in timed["commit"]
    assert "/tmp" not in text


@pytest.mark.parametrize("file", RUNS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_run_says_how_it_was_made(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    run = json.loads(text)
    assert {"asked", "commit", "kind", "hardware", "base", "time", "command"} <= run.keys()
    assert "uncommitted" not in run["commit"]
    assert "/tmp" not in text
