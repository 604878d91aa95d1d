"""docs/own-method.md as it stands: a stranger's file in one process, through NVFlare, and as a served model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sitelora.bundle import bundle_path
from sitelora.data.site_folder import SiteFolder
from sitelora.federation.in_process import run_in_process
from sitelora.flare.recipe import FederationRecipe, export_job
from tried import SITES, tried

GUIDE = Path(__file__).parents[1] / "docs" / "own-method.md"
NAME = "median_lora.median_lora"
TINY = {"image_size": 32, "epochs": 1}


def blocks() -> list[str]:
    """The guide's two pieces of Python: the method, and a federation."""
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def run(*command: str, cwd: Path, importable: Path | None = None) -> str:
    """What a command printed; its own process, with the stranger's folder in PYTHONPATH or without it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if importable:
        environment["PYTHONPATH"] = str(importable)
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's file, importable here as the guide says."""
    folder = tmp_path_factory.mktemp("stranger")
    source, _ = blocks()
    (folder / "median_lora.py").write_text(source, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def checkpoint(stranger: Path) -> Path:
    """What the guide's federation in one process leaves at site-1."""
    _, federation = blocks()
    names: dict = {"__name__": "example"}
    exec(compile(federation, GUIDE.name, "exec"), names)
    result = names["result"]
    assert (result.method, result.rounds_done) == ("median_lora", 2)
    run = names["RunFolder"].of(Path("own/home"), result.federation, result.uid)
    return stranger / run.personal_model("site-1")


def test_the_file_is_short(stranger: Path) -> None:
    assert len((stranger / "median_lora.py").read_text(encoding="utf-8").splitlines()) <= 60


def test_its_checkpoint_opens_without_the_file_and_segments_as_it_was_scored(checkpoint: Path, tmp_path: Path) -> None:
    bundle, site = bundle_path("baseline_segmentation"), checkpoint.parents[6] / "own/data/prostate/site-1"
    config = str(bundle / "configs" / "inference.json")
    options = {"config_file": config, "bundle_root": bundle, "dataset_dir": site, "ckpt": checkpoint, "image_size": 32}
    words = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    run("monai.bundle", "run", *words, "--output_dir", str(tmp_path), cwd=tmp_path)
    scores = json.loads((checkpoint.parents[1] / "evaluation" / "evaluation.json").read_text())["personal"]["cases"]
    (case,) = SiteFolder.read(site).cases("test")
    truth = np.asanyarray(nibabel.load(case["label"]).dataobj) == 1
    (mask,) = tmp_path.rglob("*_seg.nii.gz")
    found = np.asanyarray(nibabel.load(mask).dataobj) == 1
    assert 0 < found.mean() < 1
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert dice == pytest.approx(scores[0]["metrics"]["prostate"]["dice"], abs=0.01)


@pytest.mark.soak
def test_nvflare_runs_the_same_file_to_the_same_tensors(stranger: Path, checkpoint: Path, tmp_path: Path) -> None:
    sites = ["site-1", "site-2", "site-3"]
    values = {"bundle": "iat_segmentation", "dataset": "prostate", "rounds": 2}
    job = export_job(FederationRecipe(**values, sites=sites, overrides=TINY), tmp_path / "jobs")
    places = ["--data", str(stranger / "own/data"), "--home", str(tmp_path / "home")]
    own = ["--method", NAME, "--set", "method#pull=0.1"]
    run("sitelora.cli", "simulate", str(job), *own, *places, cwd=tmp_path, importable=stranger)
    (path,) = (tmp_path / "home" / "median_lora_prostate").glob("*/server/result.json")
    simulated = json.loads(path.read_text())
    expected = run_in_process(
        **values,
        sites=sites,
        overrides={**TINY, "method": NAME, "method#pull": 0.1},
        own_methods=("median_lora",),
        data=stranger / "own/data",
        home_folder=tmp_path / "in_process",
    )
    assert simulated["method"] == "median_lora"
    assert simulated["fingerprint"] == expected.fingerprint


def test_the_same_file_trains_a_classification_job(stranger: Path, tmp_path: Path) -> None:
    """Not a word of it is changed, though its network has no decoder: what has no part there names nothing."""
    on = tried("fedopal_classification")
    on.write(tmp_path / "data")
    result = run_in_process(
        bundle="fedopal_classification",
        dataset=on.dataset,
        sites=SITES,
        rounds=1,
        overrides={**on.values, "method": NAME, "method#rank": 4},
        own_methods=("median_lora",),
        data=tmp_path / "data",
        home_folder=tmp_path / "home",
    )
    assert (result.method, result.task, result.rounds_done) == ("median_lora", "classification", 1)
    shared = {tensor.name for tensor in result.egress.shared}
    assert {name.rsplit(".", 1)[-1] for name in shared if ".lora." in name} == {"A", "B"}
    assert {name for name in shared if ".lora." not in name} == {"head.weight", "head.bias"}
    assert all(0 <= scores["personal"].score <= 1 for scores in result.evaluation.values())


def test_a_method_that_cannot_be_imported_is_told_with_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sitelora.cli", "methods", "nowhere.nothing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "No module named 'nowhere'" in done.stderr
    assert "PYTHONPATH" in done.stderr
    assert "Traceback" not in done.stderr
