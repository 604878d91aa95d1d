"""What the frozen first stages make of a view is kept: the same losses and values, nothing where nothing is frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sitelora.data.phantom.heart_make import SITES as VENDORS
from sitelora.data.phantom.heart_make import TINY_CINE, make_cine
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.data.phantom.shifts import ShiftsSize, make_shifts
from sitelora.federation.in_process import run_in_process
from sitelora.federation.prefix_cache import FrozenPrefix, frozen_stages, keep_prefix
from sitelora.federation.site import Site
from sitelora.networks.prefix import Kept
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier
from sitelora.run_result import RunResult
from sitelora.settings import read_settings
from sitelora.value_kinds import SettingsError

COMMON = {"image_size": 32, "base": None, "precision": "fp32", "torch_threads": 1, "epochs": 1, "steps_per_epoch": 4}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "picture": (lambda: SamSegmenter(arch="sam_tiny", image_size=32, precision="fp32", quiet=True), (2, 1, 32, 32)),
    "stack": (lambda: SamSegmenter(arch="sam_tiny", image_size=32, precision="fp32", quiet=True), (2, 1, 32, 32, 3)),
    "diagnosis of pictures": (
        lambda: PictureClassifier(arch="vit_tiny", image_size=32, precision="fp32", quiet=True),
        (2, 3, 32, 32),
    ),
    "diagnosis of stacks": (
        lambda: CineClassifier(arch="cine_tiny", image_size=32, slices=4, precision="fp32", quiet=True),
        (2, 2, 32, 32, 4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_may_be_entered_between_any_two_stages(name: str) -> None:
    make, shape = NETWORKS[name]
    network, image = make(), torch.rand(shape)
    whole = network(image)
    for stages in range(1, len(network.stages()) + 1):
        tensors = network.until(image, stages)
        assert all(len(tensor) == len(image) for tensor in tensors)
        assert torch.equal(network(Kept(tensors, stages)), whole)
    alone = [network.until(one[None], 2) for one in image]
    together = tuple(torch.cat(parts) for parts in zip(*alone, strict=True))
    assert torch.allclose(network(Kept(together, 2)), whole, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stages_are_all_that_a_network_has_before_its_head(name: str) -> None:
    network = NETWORKS[name][0]()
    named = [one for stage in network.stages() for one in stage]
    there = {*dict(network.named_modules()), *dict(network.named_parameters())}
    assert set(named) <= there
    first = {"mask_decoder", "prompt_encoder", "head"}
    rest = [n for n, _ in network.named_parameters() if not any(f"{n}.".startswith(f"{one}.") for one in named)]
    assert {name.partition(".")[0] for name in rest} <= first


def test_what_trains_or_is_adapted_ends_the_frozen_part() -> None:
    network = NETWORKS["picture"][0]().requires_grad_(False)
    whole = len(network.stages())
    assert frozen_stages(network) == whole
    network.image_encoder.blocks[4].mlp.lin1.bias.requires_grad_(True)
    assert frozen_stages(network) == 5
    network.image_encoder.blocks[1].attn = nn.Sequential(nn.Dropout(0.1), network.image_encoder.blocks[1].attn)
    assert frozen_stages(network) == 2
    network.image_encoder.pos_embed.requires_grad_(True)
    assert frozen_stages(network) == 0
    assert frozen_stages(nn.Linear(2, 2)) == 0


def test_frozen_tensors_that_change_are_noticed() -> None:
    network = NETWORKS["picture"][0]().requires_grad_(False)
    prefix, item = FrozenPrefix(network, 3), {"image": torch.rand(1, 32, 32), "label": torch.zeros(1, 32, 32)}
    prefix(item)
    network.mask_decoder.mask_tokens.weight.add_(1.0)  # behind it: of no account
    network.image_encoder.blocks[5].mlp.lin1.bias.add_(1.0)
    prefix(item)
    network.image_encoder.blocks[1].mlp.lin1.bias.add_(1.0)
    with pytest.raises(RuntimeError, match="have changed since training began"):
        prefix(item)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("views")
    make_phantom(root, size=TINY, sites=("site-1", "site-2"))
    make_shifts(root, size=ShiftsSize(training=3, validation=1, test=1, matrix=32), sites=("site-1", "site-2"))
    make_cine(root, size=TINY_CINE)
    return root


RUNS: dict[str, tuple[str, str, tuple[str, ...], dict[str, Any]]] = {
    "decoder only, pictures": (
        "flap_sam_segmentation",
        "prostate_shifts",
        ("site-1", "site-2"),
        {"method#mode": "dec_ft", "pictures": True, "batch_size": 2},
    ),
    "decoder only, stacks": (
        "flap_sam_segmentation",
        "prostate",
        ("site-1", "site-2"),
        {"method#mode": "pdec_ft", "slices": 3},
    ),
    "last blocks, diagnosis": (
        "med_duallora_classification",
        "cine",
        VENDORS[:2],
        {"slices": 4, "batch_size": 2, "method#blocks": 2},
    ),
    "all blocks, pictures": (
        "iat_segmentation",
        "prostate_shifts",
        ("site-1", "site-2"),
        {"pictures": True, "batch_size": 2},
    ),
}


def run(name: str, data: Path, home: Path, *, cached: bool, **more: Any) -> tuple[RunResult, dict[str, Any]]:
    """Run two rounds and return the record and what the sites had trained."""
    bundle, dataset, sites, values = RUNS[name]
    trained: dict[str, Any] = {}

    def note(there: dict[str, Site], _: object) -> None:
        for site, one in there.items():
            assert one.trained is not None
            trained[site] = one.trained.values

    result = run_in_process(
        bundle=bundle,
        dataset=dataset,
        sites=sites,
        rounds=2,
        overrides={**COMMON, **values, "views": 2, **more},
        site_values={"prefix_cache": cached},
        data=data,
        home_folder=home,
        evaluate=False,
        afterwards=note,
    )
    return result, trained


@pytest.mark.parametrize("name", RUNS)
def test_the_same_losses_and_values_with_it_as_without(
    name: str, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    kept, with_it = run(name, data, tmp_path / "kept", cached=True)
    plain, without = run(name, data, tmp_path / "plain", cached=False)
    for one, other in zip(kept.rounds, plain.rounds, strict=True):
        for site in one.sites:
            losses = [each.sites[site].metrics["loss"] for each in (one, other)]
            assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for site, values in without.items():
        for tensor, value in values.items():
            assert torch.allclose(with_it[site][tensor], value, atol=1e-4), tensor
    frozen = name != "all blocks, pictures"
    assert ("frozen stages are computed once a view" in caplog.text) == frozen
    assert ("prefix_cache keeps nothing: the first block" in caplog.text) != frozen


def test_a_run_with_it_is_done_again_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    first, _ = run("decoder only, pictures", data, tmp_path / "a", cached=True)
    again, _ = run("decoder only, pictures", data, tmp_path / "b", cached=True)
    assert first.fingerprint == again.fingerprint


def trainer_of(data: Path, values: dict[str, Any]) -> Any:
    bundle, dataset, sites, more = RUNS["decoder only, pictures"]
    folder = {"dataset_dir": str(data / dataset / sites[0])}
    parser = read_settings(bundle, {**COMMON, **more, **values}).parser(ours=folder)
    return parser.get_parsed_content("train#trainer")


def test_views_are_drawn_once_and_kept_while_there_is_room(data: Path) -> None:
    trainer = trainer_of(data, {"views": 2})
    views = trainer.data_loader.dataset
    calls: list[int] = []
    whole = views._drawn
    views._drawn = lambda *place: calls.append(1) or whole(*place)
    prefix = keep_prefix(trainer)
    assert prefix is not None
    assert prefix.stages == len(trainer.network.stages())
    for _ in range(8):
        for index in range(len(views)):
            views[index]
    assert len(calls) == 2 * len(views)
    views.keep(prefix, room=1)
    calls.clear()
    for _ in range(4):
        views[0]
    assert len(calls) == 4


def test_a_view_is_the_same_whenever_it_is_drawn_and_views_differ(data: Path) -> None:
    views = trainer_of(data, {"views": 3}).data_loader.dataset
    images = {(case, view): views._drawn(case, view)["image"] for case in (0, 1) for view in range(3)}
    assert torch.equal(images[0, 1], views._drawn(0, 1)["image"])
    assert len({tuple(image.flatten().tolist()) for image in images.values()}) == len(images)
    other = copy.copy(views)
    other._from = (1, views._from[1])
    assert not torch.equal(images[0, 1], other._drawn(0, 1)["image"])


def test_without_views_there_is_nothing_to_keep_and_workers_cannot(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_of(data, {})
    assert keep_prefix(trainer, site="site-1") is None
    assert "prefix_cache keeps nothing, because views is 0" in caplog.text
    with pytest.raises(SettingsError, match="num_workers 1, expected 0 workers"):
        keep_prefix(trainer_of(data, {"views": 2, "num_workers": 1}), site="site-1")
