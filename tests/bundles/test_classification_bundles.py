"""Classification's bundles: what a federation scores is what `inference.json` writes, a table and a JSON a case."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from sitelora.bundle import bundle_path
from sitelora.data.site_folder import SiteFolder
from sitelora.federation.in_process import run_in_process
from sitelora.federation.run_folder import RunFolder
from tried import SITES, bundles_of, tried

CINE, PICTURES = "med_duallora_classification", "fedopal_classification"
every_bundle = pytest.mark.parametrize("bundle", bundles_of("classification"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for bundle in (CINE, PICTURES):
        tried(bundle).write(root)
    return root


@pytest.fixture(scope="module", params=[CINE, PICTURES])
def served(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Bundle, site folder, the model that a federation of one round leaves there, and what it scored."""
    bundle, home = request.param, tmp_path_factory.mktemp("home")
    on = tried(bundle)
    run_in_process(
        bundle=bundle,
        dataset=on.dataset,
        sites=SITES,
        rounds=1,
        federation="served",
        uid="run",
        overrides=dict(on.values),
        data=data,
        home_folder=home,
    )
    run = RunFolder.of(home, "served", "run")
    scored = json.loads((run.evaluation(SITES[0]) / "evaluation.json").read_text(encoding="utf-8"))
    return bundle, data / on.dataset / SITES[0], run.personal_model(SITES[0]), scored["personal"]


def infer(bundle: str, **values: Any) -> None:
    run = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(bundle_path(bundle) / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(bundle_path(bundle)),
        **values,
    )
    run.initialize()
    run.run()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_what_is_scored_is_what_is_served_in_the_table_and_in_every_cases_own_file(served: Any, tmp_path: Path) -> None:
    """With nothing said but the model's path: sizes, spacing, names of classes and decision stand in its file."""
    bundle, site, model, scored = served
    infer(bundle, dataset_dir=str(site), ckpt=str(model), output_dir=str(tmp_path))
    rows, names = table(tmp_path), list(SiteFolder.read(site).labels.values())
    assert sorted(row["case"] for row in rows) == sorted(case["case"] for case in scored["cases"])
    assert list(rows[0]) == [
        *("case", "image", "chosen"),
        *(f"{kind}_{name}" for kind in ("probability", "uncalibrated") for name in names),
    ]
    told = {row["case"]: row for row in rows}
    for case in scored["cases"]:
        row, own = told[case["case"]], json.loads((tmp_path / f"{case['case']}.json").read_text(encoding="utf-8"))
        assert own["chosen"] == row["chosen"]
        assert own["decision"]["why"].startswith("not fitted: 2 validation cases")
        for name in names:
            for kind in ("probability", "uncalibrated"):
                assert float(row[f"{kind}_{name}"]) == own[kind][name]
                assert own[kind][name] == pytest.approx(case["metrics"][name][kind], abs=2e-6)
            assert (row["chosen"] == name) == (case["metrics"][name]["chosen"] == 1)


def test_the_decision_in_a_models_file_decides(served: Any, tmp_path: Path) -> None:
    bundle, site, model, _ = served
    content = torch.load(model, weights_only=True)
    content["made"]["decision"] = {"temperature": 4.0, "threshold": 1e-9, "offsets": [], "why": "by hand"}
    torch.save(content, tmp_path / "moved.pt")
    infer(bundle, dataset_dir=str(site), ckpt=str(tmp_path / "moved.pt"), output_dir=str(tmp_path))
    positive = list(SiteFolder.read(site).labels.values())[1]
    for row in table(tmp_path):
        assert row["chosen"] == positive
        told, plain = float(row[f"probability_{positive}"]), float(row[f"uncalibrated_{positive}"])
        assert abs(told - 0.5) < abs(plain - 0.5)


def test_a_refused_file_does_not_stop_the_others(served: Any, tmp_path: Path) -> None:
    bundle, site, model, _ = served
    good = SiteFolder.read(site).cases("test")[0]["image"]
    bad = tmp_path / f"bad{''.join(Path(good).suffixes)}"
    bad.write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"1 of 2 images done; refused:\n.*bad"):
        infer(bundle, datalist=[good, str(bad)], ckpt=str(model), output_dir=str(tmp_path / "out"))
    assert [row["image"] for row in table(tmp_path / "out")] == [good]


@every_bundle
def test_trains_alone_evaluates_and_classifies(bundle: str, data: Path, tmp_path: Path) -> None:
    root, on, site = bundle_path(bundle), tried(bundle), data / tried(bundle).dataset / SITES[1]

    def run(*configs: str, **values: Any) -> None:
        files = [str(root / "configs" / f"{name}.json") for name in configs]
        flow = ConfigWorkflow(
            workflow_type="train", config_file=files, logging_file=False, bundle_root=str(root), **values
        )
        flow.initialize()
        flow.run()

    out, report = tmp_path / "trained", tmp_path / "evaluated"
    run("train", dataset_dir=str(site), output_dir=str(out), **on.values)
    run("train", "evaluate", dataset_dir=str(site), ckpt=str(out / "model.pt"), output_dir=str(report))
    rows, cases = table(report), SiteFolder.read(site).cases("test")
    labels = SiteFolder.read(site).labels
    assert {row["image"]: row["truth"] for row in rows} == {case["image"]: labels[case["class"]] for case in cases}
    told = dict(csv.reader((report / "metrics.csv").open()))
    shares = [
        [row["chosen"] == name for row in rows if row["truth"] == name]
        for name in labels.values()
        if any(row["truth"] == name for row in rows)
    ]
    assert float(told["val_balanced_accuracy"]) == pytest.approx(sum(sum(s) / len(s) for s in shares) / len(shares))


def test_monais_own_command_classifies_a_new_case_from_another_folder(served: Any, tmp_path: Path) -> None:
    bundle, site, model, _ = served
    image = SiteFolder.read(site).cases("validation")[0]["image"]
    config = bundle_path(bundle) / "configs" / "inference.json"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    command += ["--bundle_root", str(bundle_path(bundle)), "--datalist", f"['{image}']", "--ckpt", str(model)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "out")], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert [row["image"] for row in table(tmp_path / "out")] == [image]
