"""`make bench`: a part is a benchmark that is there, its figures come out of that one's JSON, the page shows them."""

import json
import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
_parts = runpy.run_path(str(BENCHMARKS / "bench_parts.py"))
PARTS, Figure = _parts["PARTS"], _parts["Figure"]
page = runpy.run_path(str(BENCHMARKS / "bench_page.py"))["page"]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_a_benchmark_that_writes_where_it_is_told(name: str) -> None:
    script = BENCHMARKS / PARTS[name].script
    text = script.read_text(encoding="utf-8")
    for option in ("--out", *(a for a in PARTS[name].arguments if a.startswith("--"))):
        assert f'add_argument("{option}"' in text, f"{script.name} has no {option}"


_NAMES = ("start", "compile", "prefix", "codec_bytes", "scoring", "server_rules", "wire_bytes", "memory_of_rounds")


@pytest.mark.parametrize("name", _NAMES)
def test_figures_of_a_committed_result(name: str) -> None:
    found = json.loads((BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    figures = [figure.to_json() for figure in PARTS[name].figures(found)]
    assert figures
    assert all(figure["value"] > 0 and figure["unit"] for figure in figures)
    assert len({figure["what"] for figure in figures}) == len(figures)


def test_a_goal_is_reached_from_the_side_that_it_says() -> None:
    reached = {
        (value, more): Figure(what="x", value=value, unit="s", goal=2.0, more=more).to_json()["reached"]
        for value in (1.0, 2.0, 3.0)
        for more in (False, True)
    }
    assert [reached[value, False] for value in (1.0, 2.0, 3.0)] == [True, True, False]
    assert [reached[value, True] for value in (1.0, 2.0, 3.0)] == [False, True, True]
    assert Figure(what="x", value=1.0, unit="s").to_json()["reached"] is None


def run_of(commit: str, date: str, instructions: str, value: float) -> dict:
    figure = Figure(what="a step", value=value, unit="ms", goal=60).to_json()
    return {
        "commit": commit,
        "date": date,
        "hardware": {"processor": "P", "instructions": instructions, "cores": 2},
        "versions": {"torch": "1", "monai": "2", "nvflare": "3"},
        "parts": {"step": {"minutes": 1.0, "load_before": 0.1}},
        "figures": [{"part": "step", **figure}],
    }


def test_the_page_keeps_kinds_of_processor_apart_and_shows_the_history() -> None:
    said = page(
        [
            run_of("bbb", "2026-02-01", "AVX512", 50.0),
            run_of("aaa", "2026-01-01", "AVX512", 70.0),
            run_of("ccc", "2026-03-01", "AVX2", 99.0),
        ]
    )
    avx2, avx512 = said.split("## P, AVX512, 2 cores")
    assert "| step | a step | 99 ms | at most 60 | **not reached** |" in avx2
    assert "Over commits" not in avx2
    assert "| step | a step | 50 ms | at most 60 | reached |" in avx512
    assert "| part | figure | aaa, 2026-01-01 | bbb, 2026-02-01 |" in avx512
    assert "| step | a step, ms | 70 | 50 |" in avx512
    assert "99" not in avx512


def test_a_part_that_failed_stands_on_the_page() -> None:
    run = run_of("aaa", "2026-01-01", "AVX512", 70.0)
    run["parts"]["scoring"] = {"minutes": 0.1, "load_before": 0.0, "failed": "exit 1, see scoring.log: no memory"}
    assert "**scoring failed (exit 1, see scoring.log: no memory).**" in page([run])
