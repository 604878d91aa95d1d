"""The stages of every kind of network: together they are its forward pass, and what of them is frozen is found."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from other_network import OtherNetwork
from sitelora.adapters.slices import SliceAdapters
from sitelora.method_registry import find_method
from sitelora.networks.parts import parts_of
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.stages import Kept, frozen_stages, modules_before, run_stages, tensors_before
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier

COMMON: dict[str, Any] = {"image_size": 32, "base": None, "quiet": True}
SHAPES = {"picture of SAM": (2, 1, 32, 32), "stack of SAM": (2, 1, 32, 32, 3), "picture": (2, 3, 32, 32)} | {
    "cine": (2, 2, 32, 32, 3)
}


def network_of(kind: str, precision: str = "fp32") -> Any:
    if "SAM" in kind:
        return SamSegmenter(arch="sam_tiny", precision=precision, **COMMON)
    if kind == "cine":
        return CineClassifier(arch="cine_tiny", slices=3, precision=precision, **COMMON)
    return PictureClassifier(arch="vit_tiny", precision=precision, **COMMON)


def image_of(kind: str) -> Tensor:
    return torch.rand(SHAPES[kind], generator=torch.Generator().manual_seed(0))


def adapted(kind: str, name: str, **arguments: Any) -> Any:
    network = network_of(kind)
    find_method(name)(**arguments).on(parts_of(network)).adapt(network, seed=0)
    return network


@pytest.mark.parametrize("kind", SHAPES)
def test_a_forward_pass_that_goes_on_from_any_stage_gives_the_same_bits(kind: str) -> None:
    network, image = network_of(kind), image_of(kind)
    whole, stages = network(image), network.stages()
    for first in range(len(stages)):
        kept = Kept(first, run_stages(stages[:first], network.enter(image)))
        assert torch.equal(network(image, kept), whole), stages[first].name


@pytest.mark.parametrize("kind", SHAPES)
def test_every_tensor_is_held_by_one_stage(kind: str) -> None:
    network = network_of(kind)
    names = [name for name, _ in itertools.chain(network.named_parameters(), network.named_buffers())]
    for name in names:
        held = [
            stage.name for stage in network.stages() if any(name == h or name.startswith(f"{h}.") for h in stage.holds)
        ]
        assert held, name
    assert set(tensors_before(network, len(network.stages()))) == set(names)


@pytest.mark.parametrize(
    ("kind", "name", "arguments", "frozen"),
    [
        ("stack of SAM", "flap_sam", {"mode": "pdec_ft"}, 8),
        ("stack of SAM", "flap_sam", {"mode": "dec_ft"}, 8),
        ("stack of SAM", "flap_sam", {"mode": "attn_ft"}, 1),
        ("stack of SAM", "flap_sam", {"mode": "full_ft"}, 0),
        ("stack of SAM", "flap_sam", {"adapter": "dora"}, 1),
        ("stack of SAM", "flap_sam", {"adapter": "mixture"}, 1),
        ("stack of SAM", "fedsca", {}, 1),
        ("stack of SAM", "bitfit", {}, 0),
        ("cine", "med_duallora", {"blocks": 2}, 5),
        ("cine", "fedavg_all", {}, 0),
        ("picture", "fedopal", {"blocks": 1}, 6),
        ("picture", "fedopal", {}, 1),
    ],
)
def test_the_frozen_beginning_ends_before_what_trains(
    kind: str, name: str, arguments: dict[str, Any], frozen: int
) -> None:
    network = adapted(kind, name, **arguments)
    assert frozen_stages(network) == frozen
    assert not any(tensor.requires_grad for tensor in tensors_before(network, frozen).values())


def test_adapters_that_look_across_slices_end_it_before_the_first_block() -> None:
    network = network_of("stack of SAM")
    network.requires_grad_(False)
    SliceAdapters().insert(network, seed=0)
    network.requires_grad_(False)  # even where they do not train
    assert frozen_stages(network) == 1


def test_a_hook_or_chance_ends_it() -> None:
    network = network_of("picture")
    network.requires_grad_(False)
    whole = len(network.stages())
    assert frozen_stages(network) == whole
    hook = network.encoder.blocks[3].mlp.fc1.register_forward_pre_hook(lambda module, inputs: None)
    assert frozen_stages(network) == 4
    hook.remove()
    hook = network.encoder.register_forward_hook(lambda module, inputs, output: None)  # around all stages
    assert frozen_stages(network) == 0
    hook.remove()
    network.encoder.blocks[2].mlp.drop = nn.Dropout(0.1)
    assert frozen_stages(network) == 3
    network.somewhere = nn.Parameter(torch.zeros(1))  # what no stage holds
    assert frozen_stages(network) == 0


def test_the_modules_before_a_stage_are_those_whose_hooks_would_not_run() -> None:
    network = network_of("cine")
    before = {id(module) for module in modules_before(network, 3)}
    inside = [network.encoder, network.encoder.fusion, network.encoder.stem.linear, network.encoder.blocks[1].mlp.fc1]
    assert all(id(module) in before for module in inside)
    assert not any(id(module) in before for module in (network.encoder.blocks[2], network.head))


def test_a_network_that_names_no_stages_has_no_frozen_beginning() -> None:
    network = OtherNetwork(image_size=32, classes=1)
    network.requires_grad_(False)
    assert frozen_stages(network) == 0
