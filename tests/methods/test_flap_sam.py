"""FLAP-SAM's golden counts of trained values on ViT-B at 224 px (reference/papers.md, section 3.1)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sitelora.methods.flap_sam import flap_sam
from sitelora.networks.sam import SamSegmenter
from sitelora.server.product import ProductMeanSVD


@pytest.mark.parametrize(
    ("rank", "classes", "trained", "total"),
    [
        (32, 1, 1_712_488, 91_766_838),
        (32, 2, 1_846_384, 91_900_991),
        (16, 1, 1_028_456, 91_082_806),
        (16, 2, 1_162_352, 91_216_959),
        (4, 1, 515_432, 90_569_782),
        (4, 2, 649_328, 90_703_935),
    ],
)
def test_trained_and_total_values(rank: int, classes: int, trained: int, total: int) -> None:
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224, classes=classes)
        partition = flap_sam(rank=rank).adapt(network, seed=0)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == trained
    assert sum(p.numel() for p in network.parameters()) == total
    state = network.state_dict()
    assert sum(state[name].numel() for name in partition.shared) == trained
    assert partition.local == ()
    assert trained == 42_752 * rank + 76_632 + 133_896 * (classes + 1)


@pytest.mark.parametrize(
    ("adapter", "local", "trained", "total"),
    [("dora", 0, 1_846_384, 91_923_007), ("mixture", 3 * 19, 4_582_569, 94_637_176)],
)
def test_values_of_the_papers_other_adapters(adapter: str, local: int, trained: int, total: int) -> None:
    """The paper's rows 1.846M and 4.583M; DoRA's lengths are in the network and in nobody's hands."""
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224, classes=2)
        partition = flap_sam(adapter=adapter).adapt(network, seed=0)
    state = network.state_dict()
    assert sum(state[name].numel() for name in partition.trained) == trained
    assert sum(state[name].numel() for name in partition.local) == local
    assert sum(p.numel() for p in network.parameters()) == total


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adapter": "mole"}, "adapter is 'mole'; expected one of"),
        ({"adapter": "mixture", "experts": 1}, "experts is 1; a mixture needs at least 2"),
        ({"adapter": "dora", "mode": "dec_ft"}, "mode 'dec_ft' has no adapter, found adapter='dora'"),
    ],
)
def test_a_wrong_adapter_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flap_sam(**arguments)


def test_products_are_refactored() -> None:
    assert flap_sam().server == ProductMeanSVD()
