"""A network that is not SAM under IAT, FLAP-SAM and FedSCA, as they stand: conformance, egress, NVFlare's simulator."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import other_network
from sitelora.bundle import bundles_root

NAME = "other_segmentation"
METHODS = ("iat", "flap_sam", "fedsca")
CONFORMANCE = Path("tests/conformance")
SUPPORT = Path(other_network.__file__).parent

EXPORT = """
import json, sys
from pathlib import Path
from sitelora.flare.recipe import FederationRecipe, export_job

bundle, values, job = sys.argv[1:]
sites = ["site-1", "site-2"]
export_job(
    FederationRecipe(bundle=bundle, dataset="prostate", sites=sites, rounds=1, overrides=json.loads(values)),
    Path(job).parent,
).rename(job)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A copy of the package that has one bundle more, whose network is another one; nothing else is changed."""
    root = tmp_path_factory.mktemp("installed")
    shutil.copytree(repository / "custom", root / "custom", ignore=shutil.ignore_patterns("__pycache__", "bundles"))
    shutil.copytree(bundles_root() / "iat_segmentation", root / "bundles" / "iat_segmentation")
    shutil.copytree(bundles_root() / "iat_segmentation", root / "bundles" / NAME)
    for name in ("train", "inference", "evaluate"):
        path = root / "bundles" / NAME / "configs" / f"{name}.json"
        text = path.read_text(encoding="utf-8").replace("iat_segmentation", NAME)
        content = json.loads(text.replace("sitelora.networks.sam.SamSegmenter", "other_network.OtherNetwork"))
        path.write_text(json.dumps(content), encoding="utf-8")
    return root


def run(installed: Path, *arguments: str | Path, cwd: Path) -> str:
    places = os.pathsep.join([str(installed / "custom"), str(SUPPORT)])
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_it_is_short() -> None:
    written = inspect.getsource(other_network.OtherNetwork) + inspect.getsource(other_network.Mix)
    code = [line for line in written.splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 25
    assert "sam" not in written.lower().replace("same", "")


def test_the_conformance_suite_holds_on_it(installed: Path, repository: Path) -> None:
    told = run(
        installed,
        *("-m", "pytest", "-q", CONFORMANCE / "test_every_method.py", CONFORMANCE / "test_every_server_rule.py"),
        *("-p", "no:cacheprovider", "-o", f"pythonpath={installed / 'custom'} {SUPPORT}", "--bundle", NAME),
        *(f"--method={name}" for name in METHODS),
        cwd=repository,
    )
    assert told.split()[0].count(".") >= 20 * len(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_its_egress_is_stated_by_its_own_names(method: str, installed: Path, tmp_path: Path) -> None:
    told = run(installed, "-m", "sitelora.cli", "egress", NAME, "--set", f"method={method}", "--json", cwd=tmp_path)
    statement: dict[str, Any] = json.loads(told)
    shared = {entry["name"] for entry in statement["tensors"] if entry["kind"] == "shared"}
    assert any(name.startswith("body.") for name in shared)
    assert any(name.startswith("last.") for name in shared) == (method != "fedsca")  # which keeps the heads
    assert all(entry["kind"] == "frozen" for entry in statement["tensors"] if entry["name"].startswith("stem."))


@pytest.mark.parametrize(
    "method", [METHODS[0], *(pytest.param(other, marks=pytest.mark.soak) for other in METHODS[1:])]
)
def test_nvflares_simulator_runs_it(method: str, installed: Path, tiny_data: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    values = {"image_size": 32, "base": None, "slices": 2, "epochs": 1, "precision": "fp32", "method": method}
    run(installed, "-c", EXPORT, NAME, json.dumps(values), job, cwd=tmp_path)
    where = ("--data", tiny_data, "--home", tmp_path / "home")
    run(installed, "-m", "sitelora.cli", "simulate", job, *where, cwd=tmp_path)
    (result,) = (tmp_path / "home").glob("*/*/server/result.json")
    told = json.loads(result.read_text(encoding="utf-8"))
    assert told["completed"]
    assert any(entry["name"].startswith("body.") for entry in told["egress"]["shared"])
