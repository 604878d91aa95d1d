"""The benchmarks of the codecs: committed bytes are those of today's layouts, and the page says what its runs say."""

from __future__ import annotations

import json
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sitelora.comparison.run_file import FORMAT
from sitelora.egress import egress_statement
from sitelora.sharing.wire import WireFormat
from sitelora.task_registry import find_task
from sitelora.typed_json import to_json

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_committed_bytes_are_those_of_the_layouts_and_reach_their_goals() -> None:
    found = json.loads((BENCHMARKS / "results" / "codec_bytes.json").read_text(encoding="utf-8"))["methods"]
    assert all(row["reached"] for row in found.values())
    for method, row in found.items():
        wire = WireFormat(up="int4", down="int8")
        now = egress_statement(row["bundle"], {"arch": "vit_b", "method#rank": row["rank"]}, rounds=1, wire=wire)
        assert now.method == method
        told = row["wires"]["int4"]
        assert (told["up_bytes"], told["down_bytes"]) == (now.bytes_up[0], now.bytes_down[0])


@pytest.fixture
def codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/codecs.py` with a folder of its own for runs."""
    spec = util.spec_from_file_location("codecs_benchmark", BENCHMARKS / "codecs.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def write(codecs: ModuleType, wire: str, seed: int, *, lower: float, processor: str = "AVX512") -> None:
    """Write what a run of IAT on two sites would, with scores that are lower by so much."""
    cases = [f"c{number}" for number in range(12)]
    scores = [0.8 + 0.01 * number - lower + 0.001 * (number % 2) * (wire != "none") for number in range(12)]

    def model(values: list[float]) -> dict[str, Any]:
        return {"score": sum(values) / 12, "cases": cases, "metrics": {"lungs": {"dice": values}}}

    site = {
        "models": {"base": model([0.5] * 12), "personal": model(scores)},
        "patients": {case: case for case in cases},
        "begin_bytes_up": 1000,
        "bytes_up": 1000 + 4 * (500 if wire == "int8" else 1000),
        "bytes_down": 4000,
    }
    content = {
        "format": FORMAT,
        **to_json(find_task("segmentation").scoring),
        "seed": seed,
        "commit": "abc1234",
        "versions": {"torch": "2"},
        "hardware": {"processor": "P", "instructions": processor},
        "budget": {"rounds": 4, "steps": {"a": 160}, "seconds": 10.0, "precision": "bf16"},
        "sites": {"a": site, "b": site},
    }
    file = codecs.Run(data="lungs", method="iat", wire=wire, seed=seed).job(Path()).file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_the_page_tells_difference_verdict_and_bytes_of_a_round(codecs: ModuleType) -> None:
    for seed in codecs.SEEDS:
        write(codecs, "none", seed, lower=0.0)
        write(codecs, "int8", seed, lower=0.0005 * seed)
        write(codecs, "int4", seed, lower=0.02)
    found = codecs.rows("lungs", "iat")
    assert found["none"].found is None
    assert found["int8"].found.mean == pytest.approx(0.0)
    assert (found["int8"].words, found["int4"].words) == ("held", "did not hold: not shown to be equal")
    assert found["int8"].margin == 0.01
    assert (found["none"].up, found["int8"].up, found["int8"].down) == (1000, 500, 1000)
    text = codecs.page()
    assert "500 B, 2.00 times fewer" in text
    assert "No run yet." in text  # of nuclei
    assert [str(run) for run in codecs.every(["lungs"]) if run.read() is None] == [
        f"lungs, fedavg_lora, {wire}, seed {seed}" for seed in codecs.SEEDS for wire in codecs.WIRES
    ]


def test_runs_of_another_kind_of_processor_are_neither_made_nor_compared(
    codecs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(codecs, "none", 0, lower=0.0, processor="another")
    assert codecs.make(codecs.Run(data="lungs", method="iat", wire="int8", seed=0), tmp_path) == codecs.REFUSED
    assert "its companion none with ('another', 'bf16')" in capsys.readouterr().err
    write(codecs, "int8", 0, lower=0.0)
    with pytest.raises(codecs.ComparisonError, match="two kinds of processor"):
        codecs.rows("lungs", "iat")
