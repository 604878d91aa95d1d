"""Every bundle trains the method that it is named after, and draws its cases as a round needs them."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from sitelora.bundle import bundle_names
from sitelora.federation.bundle_config import load_method, read_bundle
from sitelora.method_registry import method_names
from sitelora.settings import read_settings
from sitelora.value_kinds import SettingsError
from tried import SITES, tried


def small(bundle: str, root: Path) -> tuple[dict[str, object], dict[str, str]]:
    """Values for one tiny site of a bundle, one case a step."""
    tried(bundle).write(root)
    return {**tried(bundle).values, "batch_size": 1}, {"dataset_dir": str(root / tried(bundle).dataset / SITES[0])}


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
        assert method.name == read_bundle(bundle)["method_name"]
    elif bundle == "unet_segmentation":  # after its network: it is there for that
        assert method.name == "local_all"
    else:
        assert bundle == f"{method.name}_{read_settings(bundle).task.name}"


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


@pytest.mark.parametrize("bundle", bundle_names())
def test_steps_per_epoch_is_a_number_of_steps_in_which_no_picture_comes_twice_before_all_came_once(
    bundle: str, tmp_path: Path
) -> None:
    values, ours = small(bundle, tmp_path)
    parser = read_bundle(bundle, {**values, "steps_per_epoch": 8}, ours=ours)
    torch.manual_seed(0)
    loader, drawn = parser.get_parsed_content("train#dataloader"), list(parser.get_parsed_content("train#sampler"))
    cases = len(read_bundle(bundle, values, ours=ours).get_parsed_content("train#dataloader"))
    assert len(loader) == 8
    assert cases < 5
    assert sorted(drawn[:cases]) == list(range(cases))
    assert len(set(drawn[cases:])) == min(cases, 8 - cases)


@pytest.mark.parametrize("bundle", bundle_names())
def test_processes_that_prepare_batches_give_the_same_cases_in_the_same_order(bundle: str, tmp_path: Path) -> None:
    (values, ours), shapes = small(bundle, tmp_path), []
    for workers in (0, 2):
        loader = read_bundle(bundle, {**values, "num_workers": workers}, ours=ours).get_parsed_content(
            "validate#dataloader"
        )
        assert loader.num_workers == workers
        shapes.append([tuple(batch["image"].shape) for batch in loader])
    assert shapes[0] == shapes[1]
