"""`multi_gpu_train.json`: two processes with b cases a step each are one process with 2 b cases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from sitelora.bundle import bundle_names, bundle_path
from tried import SITES, tried

BUNDLE = "fedopal_classification"
NO_CHANCE = {"train#random_transforms": "[]", "train#patch_transforms": "[]"}
"""Random transforms draw by process."""


def run(out: Path, data: Path, *, processes: int, bundle: str = BUNDLE, **values: Any) -> dict[str, torch.Tensor]:
    """Train by MONAI's own command; return the merged model."""
    root = bundle_path(bundle)
    on = tried(bundle)
    configs = ["train", *(["multi_gpu_train"] if processes > 1 else [])]
    files = [str(root / "configs" / f"{name}.json") for name in configs]
    site = data / on.dataset / SITES[0]
    given = {**on.values, "precision": "fp32", "epochs": 2, **values}
    options = {"config_file": str(files), "bundle_root": root, "dataset_dir": site, "output_dir": out, **given}
    command = [sys.executable, "-m", "monai.bundle", "run"]
    if processes > 1:
        launch = ("torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", "monai.bundle", "run")
        command = [sys.executable, "-m", *launch]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, cwd=out.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    out.joinpath("log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return dict(torch.load(out / "model.pt", weights_only=True)["model"])


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    on = tried(BUNDLE)
    on.write(tmp_path / "data")
    outs = {name: tmp_path / name for name in ("one", "two")}
    for out in outs.values():
        out.mkdir()
    one = run(outs["one"], tmp_path / "data", processes=1, batch_size=2, **NO_CHANCE)
    two = run(outs["two"], tmp_path / "data", processes=2, batch_size=1, **NO_CHANCE)
    assert farthest(one, two) <= 1e-5, "the same steps, to the rounding of a sum in two parts"
    assert sorted(path.name for path in outs["two"].iterdir()) == sorted(path.name for path in outs["one"].iterdir())
    text = (outs["two"] / "log.txt").read_text(encoding="utf-8")
    assert text.count("Epoch[2] Complete") == 2, "the first process's trainer and validation, and no other's"


@pytest.mark.parametrize("bundle", bundle_names())
def test_what_the_second_config_changes_is_there_in_the_first(bundle: str) -> None:
    """Handlers are named by their place: the averaging one, and those of the first process alone."""
    folder = bundle_path(bundle) / "configs"
    train = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    handlers = [each["_target_"].rpartition(".")[2] for each in train["train"]["handlers"]]
    assert handlers[1:4] == ["Gradients", "ValidationHandler", "StatsHandler"]
    parser = ConfigParser()
    parser.read_config([str(folder / "train.json"), str(folder / "multi_gpu_train.json")])
    assert parser["train#handlers#1#together"] == "@together"
    assert parser["run"][0] == train["run"][0]
    assert len(parser["initialize"]) == len(train["initialize"]) + 2
    assert parser["imports"][: len(train["imports"])] == train["imports"]


@pytest.mark.soak
@pytest.mark.parametrize("bundle", [name for name in bundle_names() if name != BUNDLE])
def test_every_bundle_trains_in_two_processes(tmp_path: Path, bundle: str) -> None:
    tried(bundle).write(tmp_path / "data")
    (tmp_path / "out").mkdir()
    found = run(tmp_path / "out", tmp_path / "data", processes=2, bundle=bundle, batch_size=1)
    assert all(torch.isfinite(tensor).all() for tensor in found.values())
