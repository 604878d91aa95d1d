"""`sitelora run` at a real system: what dies is named and gone on with, to the bits of an undisturbed run."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sitelora.data.phantom.make import TINY, make_phantom


@pytest.fixture
def survival(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in ("poc_workspace", "benchmarks"):
        monkeypatch.syspath_prepend(str(repository / folder))
    return importlib.import_module("survival")


def test_every_cell_of_the_matrix_is_there_complete_and_equal_bit_for_bit(survival: ModuleType) -> None:
    told = {cell: json.loads(survival.file_of(*cell).read_text(encoding="utf-8")) for cell in survival.cells()}
    bits = told[survival.UNDISTURBED]["bits"]
    assert len(told) == 13
    assert {cell: (one["completed"], one["bits"]) for cell, one in told.items()} == dict.fromkeys(told, (True, bits))


def test_the_page_is_the_one_of_the_committed_json(
    survival: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = survival.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(survival, "PAGE", tmp_path / "survival.md")
    survival.write_page()
    assert survival.PAGE.read_text(encoding="utf-8") == committed


def test_the_held_moment_is_in_no_process_that_does_not_ask_for_it(repository: Path) -> None:
    program = "import sys; print('sitelora.flare.executor' in sys.modules)"
    place = str(repository / "benchmarks" / "moments")
    done = subprocess.run(
        [sys.executable, "-c", program, "nvflare.private.fed.app.client.worker_process", "site-2"],
        env={"PYTHONPATH": place},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_sites_job_process_killed_in_training_is_named_and_the_run_ends_with_the_same_bits(
    survival: ModuleType, tmp_path: Path
) -> None:
    make_phantom(tmp_path / "data", size=TINY, sites=list(survival.SITES))
    bits = {}
    for cell in (survival.UNDISTURBED, ("site's process", "in training")):
        root = tmp_path / cell[1].replace(" ", "_")
        root.mkdir()
        bits[cell] = survival.one_cell(*cell, root, tmp_path / "data")
    undisturbed, struck = bits.values()
    assert struck["completed"]
    assert struck["submissions"] == 2
    assert struck["named"]
    assert struck["bits"] == undisturbed["bits"]
