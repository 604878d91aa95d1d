"""A real run of two tiny sites, from drawn cases to its file; a block that another machine may not add to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sitelora.comparison.evidence.block import RefusedError, kind_here, require_same_kind
from sitelora.comparison.evidence.experiment import NO_RATE, PROBE, Cell, Entry, Experiment
from sitelora.comparison.evidence.job import EvidenceJob
from sitelora.comparison.evidence.prepared import block_of
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.evidence.run import make_run
from sitelora.comparison.run_file import ComparisonError
from sitelora.data.phantom.heart_make import SITES as VENDORS
from sitelora.data.phantom.heart_make import TINY_CINE, make_cine
from sitelora.networks.tensor_file import embedded_file

FAST = {"image_size": 32, "base": None, "slices": 3, "precision": "fp32"}
ROWS = {
    "local": Entry(method="local"),
    "fedit": Entry(method="fedavg_lora"),
    "fedit_equal": Entry(method="fedavg_lora", weights="equal"),
    "fedsca": Entry(method="fedsca"),
    "centralised": Entry(method="centralised", balanced=True),
    "unet": Entry(method="local_all", bundle="unet_segmentation", steps_times=2),
    "random": Entry(method="local", random=True),
    "elsewhere": Entry(method="local", base="sam_elsewhere"),
}


@pytest.fixture(scope="module")
def asks(toy: Experiment) -> Experiment:
    cells = {"one": Cell(title="one", cases={"site-1": 1})}
    sites = ("site-1", "site-2")
    more = {"dataset": "prostate", "overrides": FAST, "rounds": 2, "steps": 4}
    return replace(toy, sites=sites, small=(), entries=ROWS, cells=cells, claims=(), **more)


@pytest.fixture(scope="module")
def made(asks: Experiment, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    out = tmp_path_factory.mktemp("evidence")

    def make(row: str) -> dict[str, Any]:
        one = job(asks, row)
        if not one.file(out).is_file():
            make_run(one, data=tiny, out=out)
        return {**json.loads(one.file(out).read_text(encoding="utf-8")), "out": out}

    return make


def job(asks: Experiment, row: str, seed: int = 0) -> EvidenceJob:
    return EvidenceJob(experiment="toy", cell="one", entry=asks.entries[row], rate=0.02, steps=4, seed=seed, what=asks)


def test_a_file_holds_every_model_byte_and_list(made: Callable[[str], dict[str, Any]]) -> None:
    run = made("fedit")
    assert run["optimiser_steps"] == {"site-1": 4, "site-2": 4}
    assert len(run["drawn"]["site-1"]) == 1
    assert set(run["drawn"]) == {"site-1"}
    for site, block in run["sites"].items():
        assert set(block["models"]) == {"personal", "global", "trained", "tuned"}
        assert len(block["names"]) == len(block["patients"]) == block["cases"]["test"]
        for model in block["models"].values():
            assert len(model["cases"]) == block["cases"]["test"]
            assert 0 <= model["validation"] <= 1
        assert block["bytes_up"] > sum(each["up"][site] for each in run["rounds"]) > 0
        assert block["bytes_down"] == sum(each["down"][site] for each in run["rounds"])
        assert len(run["course"][site]) == 2
    assert {"instructions", "precision", "versions", "data_sha256"} < run["kind"].keys()
    assert run["kind"]["precision"] == "fp32"
    assert {"seconds", "seconds_valid", "others_cores"} < run["time"].keys()
    assert run["trained_values"] > 0


def test_the_three_models_are_three(made: Callable[[str], dict[str, Any]]) -> None:
    """Averaging changes what a site had trained, further steps change what it was served."""
    models = made("fedit")["sites"]["site-1"]["models"]
    assert models["trained"] != models["global"]
    assert models["tuned"] != models["personal"]


def test_local_alone_scores_the_base(made: Callable[[str], dict[str, Any]]) -> None:
    models = made("local")["sites"]["site-2"]["models"]
    assert set(models) == {"base", "personal", "trained", "tuned"}


def test_sites_weighed_alike_end_elsewhere(made: Callable[[str], dict[str, Any]]) -> None:
    """1 and 2 cases: by cases the second site has two thirds."""
    assert made("fedit")["fingerprint"] != made("fedit_equal")["fingerprint"]


def test_similarities_of_every_round_are_kept(made: Callable[[str], dict[str, Any]]) -> None:
    for each in made("fedsca")["rounds"]:
        assert each["similarity"]["sites"] == ["site-1", "site-2"]
        assert len(each["similarity"]["weights"]) == 2


def test_a_balanced_pool_is_scored_at_each_site(made: Callable[[str], dict[str, Any]]) -> None:
    run = made("centralised")
    assert run["optimiser_steps"] == {"pooled": 8}
    for block in run["sites"].values():
        assert block["sent"] == "images and labels"
        assert len(block["models"]["personal"]["cases"]) == len(block["names"])
        assert block["models"]["personal"]["validation"] is not None


def test_a_unet_alone_takes_its_own_bundle_and_more_steps(made: Callable[[str], dict[str, Any]]) -> None:
    run = made("unet")
    assert run["base"]["arch"] == "unet_small"
    assert run["optimiser_steps"] == {"site-1": 8, "site-2": 8}
    assert all(block["bytes_up"] == 0 for block in run["sites"].values())
    assert made("random")["base"]["name"] == "random values"


def test_another_base_is_taken_from_beside_the_results(asks: Experiment, tiny: Path, tmp_path: Path) -> None:
    one = job(asks, "elsewhere")
    assert one.asked["base"] == "sam_elsewhere"
    assert one.file(tmp_path).name == "local@sam_elsewhere_s4_lr0.02_seed0.json"
    with pytest.raises(ComparisonError, match=r"sam_elsewhere.safetensors; copy it from docs/results/evidence/bases"):
        make_run(one, data=tiny, out=tmp_path)
    one.base(tmp_path).parent.mkdir(parents=True)
    shutil.copy(embedded_file("sam_tiny"), one.base(tmp_path))
    run = json.loads(make_run(one, data=tiny, out=tmp_path).read_text(encoding="utf-8"))
    assert run["base"]["name"] == "sam_elsewhere.safetensors"
    assert str(tmp_path) not in json.dumps(run)
    assert Results.read("toy", asks, tmp_path).get("one", one.entry, 4, 0.02, 0) is not None


def test_the_files_are_read_as_results(asks: Experiment, made: Callable[[str], dict[str, Any]]) -> None:
    out = made("fedit")["out"]
    made("centralised")
    results = Results.read("toy", asks, out)
    for row in ("fedit", "centralised"):
        assert results.validation("one", asks.entries[row], 4, 0.02, [0]) is not None
    assert results.validation("one", asks.entries["fedit"], 4, 0.02, [0, 1]) is None


def test_a_block_refuses_another_kind_of_processor_before_training(
    asks: Experiment, tiny: Path, made: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    run = {key: value for key, value in made("local").items() if key != "out"}
    one = job(asks, "local").file(tmp_path)
    one.parent.mkdir(parents=True)
    one.write_text(json.dumps({**run, "kind": {**run["kind"], "instructions": "AVX9000", "precision": "bf16"}}))
    said: list[str] = []
    with pytest.raises(RefusedError, match=r"AVX9000 in the block; the precision is fp32 here and bf16"):
        make_run(job(asks, "fedit"), data=tiny, out=tmp_path, tell=said.append)
    assert said == []
    assert not job(asks, "fedit").file(tmp_path).exists()
    assert block_of(job(asks, "fedit", seed=1), tmp_path) == []


def test_other_data_and_versions_are_another_kind() -> None:
    here = kind_here("fp32", threads=1, data={"a": "1"})
    require_same_kind(here, [{"kind": here, "run": "local", "learning_rate": 0.1}])
    for change in ({"data_sha256": {"a": "2"}}, {"versions": {}}, {"threads": 2}, {"gpu": "H"}):
        with pytest.raises(RefusedError, match="nothing was trained"):
            require_same_kind(here, [{"kind": {**here, **change}, "run": "local", "learning_rate": 0.1}])


def test_a_job_is_told_to_another_process_and_back() -> None:
    told = {"experiment": "e1", "cell": "n2", "row": "fedit", "rate": 0.002, "steps": 400, "seed": 1}
    assert EvidenceJob.from_json(told).to_json() == told
    with pytest.raises(ComparisonError, match="a run of the benchmark"):
        EvidenceJob.from_json({**told, "cell": "n3"})


def test_a_probe_is_a_run_of_its_block_without_rounds_and_bytes(toy: Experiment, tmp_path: Path) -> None:
    make_cine(tmp_path / "data", size=TINY_CINE)
    values = {"base": None, "image_size": 32, "slices": 4, "precision": "fp32"}
    more = {"sites": VENDORS[:2], "bundle": "med_duallora_classification", "overrides": values}
    entries = {"probe": Entry(method=PROBE), "local": Entry(method="local")}
    asks = replace(toy, dataset="cine", small=(), entries=entries, cells={"one": Cell(title="one")}, claims=(), **more)
    one = EvidenceJob(experiment="toy", cell="one", entry=entries["probe"], rate=NO_RATE, steps=4, seed=0, what=asks)
    run = json.loads(make_run(one, data=tmp_path / "data", out=tmp_path).read_text(encoding="utf-8"))
    assert (run["run"], run["learning_rate"], run["rounds"]) == (PROBE, 0, [])
    for block in run["sites"].values():
        assert block["bytes_up"] == block["bytes_down"] == 0
        assert len(block["models"]["personal"]["cases"]) == block["cases"]["test"]
    assert run["trained_values"] > 0
    results = Results.read("toy", asks, tmp_path)
    assert results.validation("one", entries["probe"], 4, NO_RATE, [0]) is not None
