"""Every bundle keeps to MONAI's format: files, metadata, network shapes, properties, and the model zoo's ids."""

import json
import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

import sitelora
from sitelora.bundle import bundle_names, bundle_path
from sitelora.model_export.checks import SCHEMA
from tried import SITES, tried

FILES = [
    "LICENSE",
    "configs/evaluate.json",
    "configs/inference.json",
    "configs/logging.conf",
    "configs/metadata.json",
    "configs/multi_gpu_train.json",
    "configs/settings.json",
    "configs/train.json",
    "docs/README.md",
    "docs/data_license.txt",
]
TRAIN_IDS = [
    "bundle_root",
    "device",
    "dataset_dir",
    "output_dir",
    "val_interval",
    "network_def",
    "network",
    "loss",
    "optimizer",
    "train#trainer#max_epochs",
    "train#dataset#data",
    "train#inferer",
    "train#handlers",
    "train#key_metric",
    "validate#evaluator",
    "validate#handlers",
    "validate#dataset#data",
    "initialize",
    "run",
]
INFERENCE_IDS = [
    "bundle_root",
    "device",
    "dataset_dir",
    "output_dir",
    "network_def",
    "network",
    "preprocessing",
    "dataset",
    "dataloader",
    "inferer",
    "postprocessing",
    "handlers",
    "checkpointloader",
    "evaluator",
    "initialize",
    "run",
]

pytestmark = pytest.mark.parametrize("bundle", bundle_names())


def config(bundle: str, name: str) -> Path:
    return bundle_path(bundle) / "configs" / f"{name}.json"


def metadata(bundle: str) -> dict:
    return json.loads(config(bundle, "metadata").read_text(encoding="utf-8"))


def test_holds_its_files_and_no_others(bundle: str) -> None:
    root = bundle_path(bundle)
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == FILES


def test_metadata_keeps_to_the_specification(bundle: str, tmp_path: Path) -> None:
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")  # there already, so nothing is downloaded
    verify_metadata(meta_file=str(config(bundle, "metadata")), filepath=schema)


@pytest.mark.parametrize("missing", ["task", "network_data_format", "required_packages_version"])
def test_the_schema_notices_what_is_missing(bundle: str, missing: str, tmp_path: Path) -> None:
    content = metadata(bundle)
    del content[missing]
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps(content), encoding="utf-8")
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")
    with pytest.raises(ValueError, match=missing):
        verify_metadata(meta_file=str(broken), filepath=schema)


def test_metadata_says_the_truth_about_versions(bundle: str, repository: Path) -> None:
    content = metadata(bundle)
    assert content["version"] in content["changelog"]
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and line[0] != "#")
    assert content["monai_version"] == pins["monai"]
    assert content["pytorch_version"] == pins["torch"]
    assert content["numpy_version"] == pins["numpy"]
    needed = dict(content["required_packages_version"])
    assert needed.pop("sitelora") == sitelora.__version__
    assert needed == {name: pins[name] for name in needed}


def test_network_gives_what_metadata_promises(bundle: str) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(config(bundle, "metadata")),
        config_file=str(config(bundle, "inference")),
        device="cpu",
    )


def test_metadata_names_one_channel_a_class(bundle: str) -> None:
    parser = ConfigParser.load_config_file(str(config(bundle, "train")))
    prediction = metadata(bundle)["network_data_format"]["outputs"]["pred"]
    channels = parser["classes"] + (parser["task"] == "segmentation")  # the background is one
    assert prediction["num_channels"] == channels == len(prediction["channel_def"])
    image = metadata(bundle)["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"][:2] == [parser["image_size"]] * 2
    assert image["spatial_shape"][2:] == ([] if parser["pictures"] else [parser["slices"]])
    assert image["num_channels"] == len(image["channel_def"])


@pytest.mark.parametrize(("name", "ids"), [("train", TRAIN_IDS), ("inference", INFERENCE_IDS)])
def test_has_the_model_zoos_ids(bundle: str, name: str, ids: list[str]) -> None:
    parser = ConfigParser()
    parser.read_config(str(config(bundle, name)))
    assert [each for each in ids if each not in parser] == []


def test_train_and_inference_agree_on_the_network_and_the_images(bundle: str) -> None:
    train, inference = (ConfigParser.load_config_file(str(config(bundle, n))) for n in ("train", "inference"))
    for key in ("in_plane_size", "patch_size"):
        assert train[key] == inference[key], key
    for key in ("arch", "image_size", "classes", "pictures", "slices"):
        assert inference[key] == f"$@made.get('{key}', {train[key]!r})"
    seen = [
        {key: value for key, value in step.items() if key not in ("keys", "mode")}
        for step in train["train"]["deterministic_transforms"]
        if step["keys"] != "label"
    ]
    served = [
        {key: value for key, value in step.items() if key not in ("keys", "mode")}
        for step in inference["preprocessing"]["transforms"]
    ]
    assert seen == served


def test_monai_finds_no_property_missing(bundle: str, tmp_path: Path) -> None:
    tried(bundle).write(tmp_path)
    values = {
        "bundle_root": str(bundle_path(bundle)),
        "dataset_dir": str(tmp_path / tried(bundle).dataset / SITES[0]),
        "output_dir": str(tmp_path / "out"),
        "image_size": 32,
    }
    train = ConfigWorkflow(
        workflow_type="train",
        config_file=str(config(bundle, "train")),
        logging_file=False,
        base=None,
        **values,
    )
    train.initialize()
    assert train.check_properties() == []
    serve = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(config(bundle, "inference")),
        logging_file=False,
        initialize=[],  # loads a checkpoint, which a bundle does not have before a site has trained
        **values,
    )
    serve.initialize()
    assert serve.check_properties() == []
