"""An exported bundle: complete, about this very model, checked before it is there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow, verify_metadata

from sitelora.disk import file_sha256
from sitelora.model_export import checks
from sitelora.model_export.checks import SCHEMA, check_bundle
from sitelora.model_export.export import Exported, export_model
from sitelora.model_export.model_of_run import ExportError, ModelOfRun
from sitelora.serving.many_images import predict_many
from sitelora.serving.outputs import Wanted

FILES = [
    "LICENSE",
    "configs/inference.json",
    "configs/logging.conf",
    "configs/metadata.json",
    "docs/README.md",
    "docs/data_license.txt",
    "golden/image.nii.gz",
    "golden/image_seg.nii.gz",
    "large_files.yml",
    "models/model.pt",
]


def test_it_is_complete_and_named_by_federation_site_and_day(exports: tuple[Path, list[Exported]]) -> None:
    out, (first, second) = exports
    assert first.folder == out / "iat_prostate_site-1_20261126_segmentation"
    assert second.folder == out / "iat_prostate_site-1_20261203_segmentation"
    for folder in (first.folder, second.folder, out / "iat_prostate_site-1_segmentation"):
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == FILES
    assert len(first.checked) == 4


def test_its_metadata_are_of_this_very_model(exports: tuple[Path, list[Exported]], runs: list[Path]) -> None:
    folder = exports[1][0].folder
    verify_metadata(meta_file=str(folder / "configs" / "metadata.json"), filepath=str(SCHEMA))
    told = json.loads((folder / "configs" / "metadata.json").read_text())
    record = json.loads((runs[0] / "server" / "result.json").read_text())["evaluation"]["site-1"]["personal"]
    assert told["version"] in told["changelog"]
    assert told["eval_metrics"]["mean_dice"] == round(record["score"], 4)
    for word in ("iat_prostate", "site-1", "20261126-101010-aa", "2026-11-26", "method iat", "not a medical device"):
        assert word in told["description"]
    image, pred = (told["network_data_format"][key] for key in ("inputs", "outputs"))
    assert image["image"]["modality"] == "MRI T2 (artificial)"
    assert image["image"]["spatial_shape"] == pred["pred"]["spatial_shape"] == [32, 32, 3]
    assert pred["pred"]["channel_def"] == {"0": "background", "1": "prostate"}
    assert told["supported_apps"] == {"monai-label": "0.8.5"}
    ours = told["sitelora"]
    assert (ours["site"], ours["method"], ours["uid"], ours["model"]) == ("site-1", "iat", runs[0].name, "personal")
    large = yaml.safe_load((folder / "large_files.yml").read_text())["large_files"]
    assert [(one["path"], one["hash_val"]) for one in large] == [
        ("models/model.pt", file_sha256(folder / "models" / "model.pt"))
    ]


def test_the_runs_values_are_frozen_and_nothing_asks_the_model(exports: tuple[Path, list[Exported]]) -> None:
    config = json.loads((exports[1][0].folder / "configs" / "inference.json").read_text())
    assert "@made" not in json.dumps(config)
    values = {key: config[key] for key in ("arch", "image_size", "classes", "pictures", "slices")}
    assert values == {"arch": "sam_tiny", "image_size": 32, "classes": 1, "pictures": False, "slices": 3}


def test_it_gives_what_predict_gives_of_the_sites_own_model(
    exports: tuple[Path, list[Exported]], runs: list[Path], tiny_data: Path, tmp_path: Path
) -> None:
    images = sorted((tiny_data / "prostate" / "site-1" / "images").iterdir())[:2]
    personal = runs[0] / "site-1" / "models" / "personal.pt"
    list(predict_many(personal, images, out=tmp_path / "personal", wanted=Wanted(), device="cpu"))
    list(predict_many(exports[1][0].folder, images, out=tmp_path / "folder", wanted=Wanted(), device="cpu"))
    elsewhere = shutil.copytree(exports[1][0].folder, tmp_path / "elsewhere")
    run = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(elsewhere / "configs" / "inference.json"),
        meta_file=str(elsewhere / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(elsewhere),
        datalist=[str(image) for image in images],
        output_dir=str(tmp_path / "monai"),
        device="$torch.device('cpu')",
    )
    run.initialize()
    assert run.check_properties() == []
    run.run()
    for image in images:
        name = image.name.replace(".nii.gz", "_seg.nii.gz")
        masks = [np.asanyarray(nib.load(tmp_path / way / name).dataobj) for way in ("personal", "folder", "monai")]
        np.testing.assert_array_equal(masks[0], masks[1])
        np.testing.assert_array_equal(masks[0], masks[2])


def test_the_model_card_is_the_runs(exports: tuple[Path, list[Exported]]) -> None:
    card = (exports[1][0].folder / "docs" / "README.md").read_text()
    for words in (
        "| Took part | 2 sites with 4 training cases |",
        "| Rounds | 1 of 1 done |",
        "Artificial data at every site",
        "clipped no update and added no noise",
        file_sha256(exports[1][0].folder / "models" / "model.pt"),
    ):
        assert words in card
    assert re.search(r"\| site-1, .* \| 0\.\d{3}", card)
    assert "Traceback" not in card


def test_the_same_model_is_not_exported_twice(exports: tuple[Path, list[Exported]], runs: list[Path]) -> None:
    with pytest.raises(ExportError, match="is there already"):
        export_model(ModelOfRun.find(runs[0], "site-1"), exports[0])


def test_a_model_for_an_unseen_site_is_exported_alike_and_a_global_one_where_there_is_one(
    runs: list[Path], tmp_path: Path
) -> None:
    exported = export_model(ModelOfRun.find(runs[0], "site-1", "unseen"), tmp_path, served=False)
    assert exported.folder.name == "iat_prostate_site-1-unseen_20261126_segmentation"
    assert [path.name for path in tmp_path.iterdir()] == [exported.folder.name]
    with pytest.raises(ExportError, match=r"no global model of site 'site-1'.*local to a site.*site-1/models/personal"):
        ModelOfRun.find(runs[0], "site-1", "global")
    with pytest.raises(ExportError, match="no personal model of site 'site-9'"):
        ModelOfRun.find(runs[0], "site-9")


def test_at_a_site_its_own_part_of_the_run_is_enough(runs: list[Path], tmp_path: Path) -> None:
    alone = tmp_path / "iat_prostate" / runs[0].name
    shutil.copytree(runs[0] / "site-1", alone / "site-1")
    exported = export_model(ModelOfRun.find(alone, "site-1"), tmp_path / "out", served=False)
    told = json.loads((exported.folder / "configs" / "metadata.json").read_text())
    assert told["eval_metrics"]["mean_dice"] > 0
    assert "| Took part | not known here |" in (exported.folder / "docs" / "README.md").read_text()


@pytest.mark.parametrize("damage", ["partial", "shape", "nan"])
def test_what_does_not_load_strictly_cannot_be_exported(damage: str, runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "iat_prostate" / runs[0].name
    shutil.copytree(runs[0] / "site-1", run / "site-1")
    file = run / "site-1" / "models" / "personal.pt"
    content = torch.load(file, weights_only=True)
    if damage == "partial":
        content["model"] = {name: value for name, value in content["model"].items() if "decoder" in name}
    if damage == "shape":
        content["made"]["image_size"] = 64
    if damage == "nan":
        next(iter(content["model"].values())).fill_(torch.nan)
    torch.save(content, file)
    with pytest.raises(ValueError, match=r"does not fit the network"):
        export_model(ModelOfRun.find(run, "site-1"), tmp_path / "out")
    assert list((tmp_path / "out").glob("*")) == []


def test_a_bundle_that_gives_other_masks_is_not_written(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upside_down(folder: Path, out: Path) -> None:
        kept = nib.load(folder / "golden" / "image_seg.nii.gz")
        nib.save(nib.Nifti1Image(1 - np.asanyarray(kept.dataobj), kept.affine), out / "image_seg.nii.gz")

    monkeypatch.setattr(checks, "_segment", upside_down)
    with pytest.raises(ExportError, match=r"\d+ values of the golden case differ"):
        export_model(ModelOfRun.find(runs[0], "site-1"), tmp_path / "out")
    assert list((tmp_path / "out").glob("*")) == []


def test_metadata_that_break_the_schema_and_shapes_that_are_not_the_networks_are_told(
    exports: tuple[Path, list[Exported]], tmp_path: Path
) -> None:
    folder = shutil.copytree(exports[1][0].folder, tmp_path / "bundle")
    file = folder / "configs" / "metadata.json"
    told = json.loads(file.read_text())
    told["network_data_format"]["outputs"]["pred"]["num_channels"] = 5
    file.write_text(json.dumps(told))
    with pytest.raises(ExportError, match="does not pass its network's shapes"):
        check_bundle(folder, [])
    del told["task"]
    file.write_text(json.dumps(told))
    with pytest.raises(ExportError, match="'task' is a required property"):
        check_bundle(folder, [])


@pytest.mark.parametrize("bundle", ["fedsca_segmentation", "iat_segmentation"])
def test_adapters_that_cannot_be_merged_go_with_the_network(
    bundle: str, small_run: Callable[..., Path], tmp_path: Path
) -> None:
    """Under the method's own bundle, and under another one's settings."""
    values = {"method": "fedsca", "method#reduction": 8} if bundle == "iat_segmentation" else {}
    run = small_run(tmp_path / "home", "r", bundle=bundle, sites=("site-1",), values=values)
    exported = export_model(ModelOfRun.find(run, "site-1"), tmp_path / "out", served=False)
    state = torch.load(exported.folder / "models" / "model.pt", weights_only=True)["model"]
    assert [name for name in state if ".adapter." in name]
    config = json.loads((exported.folder / "configs" / "inference.json").read_text())
    assert config["method"]["reduction"] == (8 if values else 4)


def test_labels_that_monai_would_act_on_are_refused(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = ModelOfRun.find(runs[0], "site-1")
    run = tmp_path / "iat_prostate" / runs[0].name
    shutil.copytree(runs[0] / "site-1", run / "site-1")
    content = torch.load(origin.file, weights_only=True)
    content["made"]["labels"]["1"] = "$1 / 0"
    torch.save(content, run / "site-1" / "models" / "personal.pt")
    with pytest.raises(ValueError, match="names of labels"):
        export_model(ModelOfRun.find(run, "site-1"), tmp_path / "out")


@pytest.mark.parametrize("dataset", ["x' if not print() else 'x", "../prostate", "a b"])
def test_a_servers_record_puts_no_text_into_a_config(dataset: str, runs: list[Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[0], tmp_path / runs[0].parent.name / runs[0].name)
    record = run / "server" / "result.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "dataset": dataset}))
    with pytest.raises(ExportError, match=r"dataset .*: expected 1 to 63 letters"):
        ModelOfRun.find(run, "site-1")


def test_a_folder_may_begin_with_a_sign(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("%out", "$out"):
        assert export_model(ModelOfRun.find(runs[0], "site-1"), Path(name), served=False).folder.is_dir()


def test_a_folder_that_monai_would_take_apart_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="takes # in a path"):
        export_model(ModelOfRun.find(runs[0], "site-1"), tmp_path / "a#b", served=False)
    assert not (tmp_path / "a#b").exists()
