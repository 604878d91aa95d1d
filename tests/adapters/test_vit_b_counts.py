"""The golden counts of reference/papers.md, section 3.1, on SAM ViT-B at 224 px, without a single value drawn."""

from __future__ import annotations

import pytest
import torch

from sitelora.adapters.base import AdapterSpec, adapter_tensor_names, adapters_of, insert_adapters
from sitelora.adapters.bottleneck import BottleneckAdapters
from sitelora.adapters.lora import LoRA
from sitelora.networks.sam import SamSegmenter


def vit_b(*specs: AdapterSpec, classes: int = 1) -> SamSegmenter:
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224, classes=classes)
        insert_adapters(network, specs, seed=0)
    return network


def lora(rank: int) -> tuple[LoRA, LoRA]:
    return LoRA(where="image_encoder", rank=rank), LoRA(where="mask_decoder", rank=rank)


def values_in(network: SamSegmenter, part: str = "") -> int:
    state = network.state_dict()
    return sum(state[name].numel() for name in adapter_tensor_names(network) if name.startswith(part))


@pytest.mark.parametrize(("rank", "total"), [(32, 1_368_064), (16, 684_032), (4, 171_008), (1, 42_752)])
def test_lora_is_76_tensors_with_42752_values_a_rank(rank: int, total: int) -> None:
    network = vit_b(*lora(rank))
    assert len(adapter_tensor_names(network)) == 76
    assert values_in(network) == 42_752 * rank == total


def test_lora_of_encoder_and_decoder_at_rank_32() -> None:
    network = vit_b(*lora(32))
    assert values_in(network, "image_encoder.") == 1_179_648
    assert values_in(network, "mask_decoder.") == 188_416
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(("classes", "total"), [(1, 91_766_838), (2, 91_900_991)])
def test_the_whole_network_with_lora_at_rank_32(classes: int, total: int) -> None:
    assert sum(parameter.numel() for parameter in vit_b(*lora(32), classes=classes).parameters()) == total


def test_bottleneck_adapters() -> None:
    network = vit_b(BottleneckAdapters())
    sizes = [sum(p.numel() for p in adapter.parameters()) for _, _, adapter in adapters_of(network)]
    assert sizes == [295_872] * 24
    assert values_in(network) == 7_100_928
