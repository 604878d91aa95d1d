"""What is meant to be the same in all bundles is the same, so that comparisons are fair; the rest is listed here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from sitelora.bundle import bundle_names, bundle_path
from sitelora.data.phantom.make import PhantomSize, make_phantom
from sitelora.federation.bundle_config import load_method, read_bundle
from sitelora.method_registry import method_names
from sitelora.settings import read_settings
from sitelora.value_kinds import SettingsError

REFERENCE = "iat_segmentation"
OWN = {"imports", "output_dir", "method", "made"}
TRAIN_DIFFERS = {
    "baseline_segmentation": {*OWN, "method_name"},
    "fedsca_segmentation": OWN - {"imports"},
    "flap_sam_segmentation": {
        *OWN,
        "epochs",
        "learning_rate",
        "weight_decay",
        "max_gradient_norm",
        "schedule_rounds",
        "warmup_steps",
        "schedule",
        "loss",
        "optimizer",
        "train#random_transforms",
    },
}
INFERENCE_DIFFERS = {
    "baseline_segmentation": {"output_dir", "made", "initialize"},
    "fedsca_segmentation": {
        "imports",
        "output_dir",
        "made",
        "initialize",
        "precision",
        "method",
        "base_def",
        "network_def",
    },
    "flap_sam_segmentation": {"output_dir", "made", "initialize"},
}
OTHERS = [name for name in bundle_names() if name != REFERENCE]

every_other = pytest.mark.parametrize("bundle", OTHERS)


def config(bundle: str, name: str) -> dict[str, Any]:
    return json.loads((bundle_path(bundle) / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def parts(content: dict[str, Any]) -> dict[str, Any]:
    """Values by id, the sections of training and validation one by one."""
    found = {}
    for key, value in content.items():
        if key in ("train", "validate"):
            found.update({f"{key}#{inner}": part for inner, part in value.items()})
        else:
            found[key] = value
    return found


def differing(bundle: str, name: str) -> set[str]:
    one, two = parts(config(REFERENCE, name)), parts(config(bundle, name))
    return {key for key in one.keys() | two.keys() if key not in one or key not in two or one[key] != two[key]}


@every_other
def test_training_differs_where_it_is_meant_to_and_nowhere_else(bundle: str) -> None:
    found = differing(bundle, "train")
    assert found == TRAIN_DIFFERS[bundle], (
        f"{bundle} and {REFERENCE} differ in {sorted(found ^ TRAIN_DIFFERS[bundle])}: change both train.json, or say "
        "here that the difference is meant"
    )


@every_other
def test_deterministic_transforms_and_validation_are_the_same_everywhere(bundle: str) -> None:
    one, two = config(REFERENCE, "train"), config(bundle, "train")
    assert two["train"]["deterministic_transforms"] == one["train"]["deterministic_transforms"]
    assert two["train"]["random_transforms"][:2] == one["train"]["random_transforms"][:2]  # how a patch is cut
    assert two["validate"] == one["validate"]


@every_other
def test_inference_differs_where_it_is_meant_to_and_nowhere_else(bundle: str) -> None:
    assert differing(bundle, "inference") == INFERENCE_DIFFERS[bundle]


@every_other
def test_evaluation_licence_and_logging_are_the_same_everywhere(bundle: str) -> None:
    one, two = config(REFERENCE, "evaluate"), config(bundle, "evaluate")
    assert one.pop("made").replace(REFERENCE, bundle) == two.pop("made")
    if bundle == "fedsca_segmentation":  # what it trains is what it serves: adapters stay in the network
        del one["network"]
    assert two == one
    for name in ("LICENSE", "configs/logging.conf", "docs/data_license.txt"):
        assert (bundle_path(bundle) / name).read_bytes() == (bundle_path(REFERENCE) / name).read_bytes()


@every_other
def test_outputs_go_to_a_folder_of_the_bundles_own(bundle: str) -> None:
    for name in ("train", "inference"):
        assert f"'{bundle}'" in config(bundle, name)["output_dir"]
        assert REFERENCE not in json.dumps(config(bundle, name))


def test_fedsca_serves_the_network_and_the_adapters_that_it_trains() -> None:
    train, inference = config("fedsca_segmentation", "train"), config("fedsca_segmentation", "inference")
    made = {"reduction": "$@made.get('arguments', {}).get('reduction', 4)"}
    assert inference["method"] == {**train["method"], **made}
    assert inference["precision"] == train["precision"]
    assert inference["base_def"] == config(REFERENCE, "inference")["network_def"]


@pytest.mark.parametrize("arch", ["sam_tiny", "vit_b"])
def test_fedsca_shares_the_adapters_of_the_first_half_of_any_encoder(arch: str) -> None:
    method = load_method("fedsca_segmentation", {"arch": arch})
    blocks = {"sam_tiny": 6, "vit_b": 12}[arch]
    shared = {pattern.split(".")[2] for pattern in method.share.shared}
    assert shared == {str(number) for number in range(blocks // 2)}


@pytest.mark.parametrize("bundle", bundle_names())
def test_is_named_after_the_method_that_it_trains_by_default(bundle: str) -> None:
    method = load_method(bundle)
    if bundle == "baseline_segmentation":
        assert method.name == config(bundle, "train")["method_name"]
    else:
        assert bundle == f"{method.name}_segmentation"


@pytest.mark.parametrize("name", method_names())
def test_the_baselines_bundle_trains_every_method(name: str) -> None:
    own = read_bundle("baseline_segmentation")["method"]
    by_name = read_settings("baseline_segmentation", {"method": name})
    assert by_name.method.name == name
    alone = ConfigParser({"method_name": name, "imports": ["$from sitelora.method_registry import find_method"]})
    assert own["_target_"] == "$find_method(@method_name)"
    if "rank" in by_name.method_config:
        assert by_name.method_config["rank"] == own["rank"]
        smaller = load_method("baseline_segmentation", {"method": name, "method#rank": 3})
        assert {adapter.rank for adapter in smaller.adapters} <= {3}
        alone["method"] = own  # as `python -m monai.bundle run --method_name NAME` has it
        assert alone.get_parsed_content("method").name == name


def test_the_baselines_bundle_names_the_methods_that_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no method is called 'fedavgg' .did you mean 'fedavg_all'.*fedavg_lora"):
        load_method("baseline_segmentation", {"method": "fedavgg"})


READMES = {
    "baseline_segmentation": ["| Method | `{method_name}`", "LoRA rank {method[rank]}, scale {method[scale]:g},"],
    "fedsca_segmentation": ["temperature of the mixture {method[temperature]}, another"],
    "flap_sam_segmentation": [
        "LoRA rank {method[rank]}, scale 1,",
        "AdamW, betas {optimizer[betas][0]} and {optimizer[betas][1]}, learning rate {learning_rate}, weight decay "
        "{weight_decay} |",
        "| {warmup_steps} steps of linear warm-up, then (1 - step / all steps) to the power {schedule[power]:.0f}, "
        "planned for {schedule_rounds} rounds |",
    ],
}
ALL_READMES = [
    "| Base | `{arch}`",
    "| Input | {image_size} x {image_size} pixels, {slices} neighbouring slices",
    "learning rate {learning_rate}, weight decay {weight_decay}",
    "| Loss | {loss[lambda_dice]} Dice + {loss[lambda_ce]} cross entropy",
    "| Batch | volumes: {batch_size}, patches of each: {crops_per_volume} |",
    "| Epochs | {epochs} a round; {epochs} by default when run alone; an epoch is every picture once, or",
]


@every_other
def test_readme_says_what_train_json_holds(bundle: str) -> None:
    text = (bundle_path(bundle) / "docs" / "README.md").read_text(encoding="utf-8")
    content = config(bundle, "train")
    for sentence in (*ALL_READMES, *READMES[bundle]):
        assert sentence.format(**content) in text, sentence.format(**content)


@pytest.mark.parametrize("bundle", bundle_names())
def test_steps_per_epoch_is_a_number_of_steps_in_which_no_picture_comes_twice_before_all_came_once(
    bundle: str, tmp_path: Path
) -> None:
    site = make_phantom(tmp_path, size=PhantomSize(training=3, matrix=16, slices=4), sites=["site-1"]) / "site-1"
    values, ours = {"image_size": 16, "slices": 2, "crops_per_volume": 1, "batch_size": 1}, {"dataset_dir": str(site)}
    parser = read_bundle(bundle, {**values, "steps_per_epoch": 8}, ours=ours)
    torch.manual_seed(0)
    loader, drawn = parser.get_parsed_content("train#dataloader"), list(parser.get_parsed_content("train#sampler"))
    assert len(loader) == 8
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [0, 1, 2]
    assert len(set(drawn[6:])) == 2
    assert len(read_bundle(bundle, values, ours=ours).get_parsed_content("train#dataloader")) == 3


@pytest.mark.parametrize("bundle", bundle_names())
def test_processes_that_prepare_batches_give_the_same_cases_in_the_same_order(bundle: str, tmp_path: Path) -> None:
    site = make_phantom(tmp_path, size=PhantomSize(training=3, matrix=16, slices=4), sites=["site-1"]) / "site-1"
    values, ours = {"image_size": 16, "slices": 2, "crops_per_volume": 1, "batch_size": 1}, {"dataset_dir": str(site)}
    shapes = []
    for workers in (0, 2):
        loader = read_bundle(bundle, {**values, "num_workers": workers}, ours=ours).get_parsed_content(
            "validate#dataloader"
        )
        assert loader.num_workers == workers
        shapes.append([tuple(batch["image"].shape) for batch in loader])
    assert shapes[0] == shapes[1]
