"""`sitelora run` at a real system: what dies is named and gone on with, to the bits of an undisturbed run."""

import importlib
import json
import socket
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
    assert len(told) == 1 + 9 * 3
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


def test_a_cut_wire_passes_nothing_and_loses_nothing(survival: ModuleType) -> None:
    cuttable = importlib.import_module("cuttable")
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = cuttable.Wire(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", wire.port)) as near:
            near.sendall(b"before ")
            far, _ = server.accept()
            assert far.recv(100) == b"before "
            wire.cut()
            near.sendall(b"while cut")
            far.settimeout(0.5)
            with pytest.raises(TimeoutError):
                far.recv(100)
            wire.mend()
            far.settimeout(60)
            assert far.recv(100) == b"while cut"
            far.sendall(b"back")
            near.settimeout(60)
            assert near.recv(100) == b"back"
            far.close()
            assert near.recv(100) == b""
        wire.close()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_what_strikes_a_site_in_training_is_named_and_the_run_ends_with_the_same_bits(
    survival: ModuleType, tmp_path: Path
) -> None:
    make_phantom(tmp_path / "data", size=TINY, sites=list(survival.SITES))
    told = {}
    for fault in ("nothing", "site's process", "disk full", "site's newest state", "network cut"):
        moment = "in training" if told else "never"
        root = tmp_path / survival.file_of(fault, moment).stem
        root.mkdir()
        told[fault] = survival.one_cell(fault, moment, root, tmp_path / "data")
    assert {fault: (one["completed"], one["bits"]) for fault, one in told.items()} == dict.fromkeys(
        told, (True, told["nothing"]["bits"])
    )
    assert {fault: one["submissions"] for fault, one in told.items() if fault != "nothing"} == {
        "site's process": 2,
        "disk full": 2,
        "site's newest state": 2,
        "network cut": 1,
    }
    assert all(one["named"] for one in told.values() if one["submissions"] == 2)
    assert any("disk_full" in line for line in told["disk full"]["told"])
    assert told["site's newest state"]["site_told"] == ["round 0 was damaged and is done again"]
