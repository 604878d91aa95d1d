"""A site that comes after the last round: it is given the federation's model, trains alone, and never took part."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sitelora.comparison.evidence.experiment import BASE, Cell, Entry, Experiment
from sitelora.comparison.evidence.job import EvidenceJob
from sitelora.comparison.evidence.results import Results, model_of
from sitelora.comparison.evidence.run import make_run
from sitelora.comparison.evidence.wider import copy_wider

ROWS = {
    "local": Entry(method="local"),
    "fedit": Entry(method="fedavg_lora"),
    "median": Entry(method="fedavg_lora", aggregation="coordinate_median"),
    "fedit_given": Entry(method="fedavg_lora", model=BASE),
}


@pytest.fixture(scope="module")
def asks(toy: Experiment) -> Experiment:
    fast = {"image_size": 32, "base": None, "slices": 3, "precision": "fp32"}
    cells = {"one": Cell(title="one", cases={"site-2": 1}), "wide": Cell(title="wide", too_wide={"site-1": 3})}
    more = {"dataset": "prostate", "overrides": fast, "rounds": 2, "steps": 4, "small": (), "claims": ()}
    return replace(toy, sites=("site-1",), newcomers=("site-2",), newcomer_steps=20, entries=ROWS, cells=cells, **more)


@pytest.fixture(scope="module")
def made(asks: Experiment, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    out = tmp_path_factory.mktemp("newcomers")

    def make(row: str) -> dict[str, Any]:
        one = EvidenceJob(experiment="toy", cell="one", entry=asks.entries[row], rate=0.02, steps=4, seed=0, what=asks)
        if not one.file(out).is_file():
            make_run(one, data=tiny, out=out)
        return {**json.loads(one.file(out).read_text(encoding="utf-8")), "out": out}

    return make


def test_only_the_newcomer_is_scored_and_it_sends_nothing(made: Callable[[str], dict[str, Any]]) -> None:
    run = made("fedit")
    assert set(run["sites"]) == {"site-2"}
    assert set(run["optimiser_steps"]) == {"site-1"}
    block = run["sites"]["site-2"]
    assert set(block["models"]) == {"base", "personal", "trained", "tuned"}
    assert block["bytes_up"] == 0
    assert block["bytes_down"] > 1_000_000
    assert block["models"]["base"] != block["models"]["personal"]
    assert len(run["drawn"]["site-2"]) == 1


def test_what_it_is_given_is_the_federations_model(made: Callable[[str], dict[str, Any]]) -> None:
    given, base = (made(row)["sites"]["site-2"]["models"]["base"] for row in ("fedit", "local"))
    assert given["cases"] != base["cases"]
    assert not made("local")["rounds"]
    assert made("local")["sites"]["site-2"]["bytes_down"] == 0


def test_a_row_may_be_what_is_given_or_another_rule(asks: Experiment, made: Callable[[str], dict[str, Any]]) -> None:
    run = made("median")
    assert run["run"] == "fedavg_lora@coordinate_median"
    made("fedit")
    results = Results.read("toy", asks, run["out"])
    entry = asks.entries["fedit_given"]
    record = results.get("one", entry, 4, 0.02, 0)
    assert record is not None
    assert model_of(record["sites"]["site-2"], entry.model) == record["sites"]["site-2"]["models"]["base"]
    assert results.gain("one", entry, 4, 0.02, [0]) == 0.0


def test_a_wider_mask_grows_into_the_background_alone(tmp_path: Path) -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[20:30, 20:30], mask[20:30, 30:40] = 1, 2
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        Image.fromarray(mask).save(tmp_path / name / "a.png")
        copy_wider(tmp_path / name / "a.png", tmp_path / name / "b.png", share=3 / 64)
    grown = np.asarray(Image.open(tmp_path / "labels" / "b.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "images" / "b.png")), mask)
    assert np.array_equal(grown[mask > 0], mask[mask > 0])
    assert (grown[25, 16:20] == [0, 1, 1, 1]).all()
    assert (grown[25, 40:44] == [2, 2, 2, 0]).all()
