"""The probe of IAT's premise: what it counts, and that its page says what its runs say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import factor_agreement as probe  # noqa: E402


def test_agreement_is_the_mean_cosine_over_pairs_of_sites() -> None:
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    moved = {
        "a": {"x.A": one, "x.B": one, "bias": one},
        "b": {"x.A": one, "x.B": other},
        "c": {"x.A": one, "x.B": -one},
    }
    assert probe.agreements(moved) == {"x.A": 1.0, "x.B": pytest.approx(-1 / 3, abs=1e-5)}


def test_the_page_says_what_the_runs_say() -> None:
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(probe.RUNS.glob("*.json"))]
    assert len(runs) == len(probe.KNOBS) * probe.SEEDS
    assert probe.PAGE.read_text(encoding="utf-8") == probe.page(runs)
