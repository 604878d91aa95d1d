"""A small U-Net beside the other networks; `@all` of each is every parameter and no buffer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sitelora.networks.parts import parts_of
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.unet import SmallUNet
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier
from sitelora.sharing.patterns import matches_any

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "sam": lambda: SamSegmenter(arch="sam_tiny", image_size=64),
    "picture": lambda: PictureClassifier(arch="vit_tiny", image_size=64),
    "cine": lambda: CineClassifier(arch="cine_tiny", image_size=64, slices=4),
    "unet": lambda: SmallUNet(arch="unet_small", image_size=64),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_all_is_every_parameter_and_no_buffer(name: str) -> None:
    with torch.device("meta"):
        network = NETWORKS[name]()
    patterns = parts_of(network).expand("@all")
    there = {tensor for tensor in network.state_dict() if matches_any(patterns, tensor)}
    assert there == dict(network.named_parameters()).keys()


def test_a_unet_sees_pictures_and_stacks_and_starts_from_its_seed_alone() -> None:
    network = SmallUNet(arch="unet_small", image_size=32, classes=2, precision="fp32").eval()
    stack = torch.rand(2, 1, 32, 32, 3)
    with torch.no_grad():
        logits = network(stack)
        alone = network(stack[..., 1])
    assert logits.shape == (2, 3, 32, 32, 3)
    assert torch.allclose(logits[..., 1], alone, atol=1e-5)
    again = SmallUNet(arch="unet_small", image_size=32, classes=2, seed=0)
    assert again.base_fingerprint == network.base_fingerprint
    assert SmallUNet(arch="unet_small", image_size=32, classes=2, seed=1).base_fingerprint != again.base_fingerprint


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image_size": 40}, "a multiple of 16"),
        ({"arch": "unet_big"}, "expected one of"),
        ({"base": "embedded"}, "expected null"),
        ({"classes": 0}, "at least 1"),
    ],
)
def test_a_unet_that_cannot_be_is_refused(values: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SmallUNet(**{"arch": "unet_small", "image_size": 32, **values})
