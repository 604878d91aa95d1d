"""IAT as a value: what it shares, what it never sends, its counts on ViT-B and its controls on one switch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sitelora.method import Method
from sitelora.methods.iat import iat
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.sam_parts import sam_parts
from sitelora.regularizers.subspace import SubspaceOrthogonality
from sitelora.sharing.patterns import matches_any
from sitelora.sharing.rule import Partition
from sitelora.sharing.wire import EgressError, allow_only_shared


def partition_on(method: Method, arch: str = "sam_tiny", classes: int = 1) -> tuple[Partition, dict[str, int]]:
    with torch.device("meta"):
        network = SamSegmenter(arch=arch, image_size=224, classes=classes)
        partition = method.adapt(network, seed=0)
    return partition, {name: tensor.numel() for name, tensor in network.state_dict().items()}


def factors(names: tuple[str, ...]) -> set[tuple[str, str]]:
    """(module, factor) of every adapter tensor among the names."""
    return {(n.split(".")[0], n.rsplit(".", 1)[-1]) for n in names if ".lora." in n}


def test_the_encoder_shares_b_and_the_decoder_a() -> None:
    partition, _ = partition_on(iat())
    assert factors(partition.shared) == {("image_encoder", "B"), ("mask_decoder", "A")}
    assert factors(partition.local) == {("image_encoder", "A"), ("mask_decoder", "B")}
    assert factors(partition.frozen) == set()
    assert all(".lora." in name for name in partition.local)


def test_no_payload_can_hold_an_encoder_a_or_a_decoder_b() -> None:
    method = iat().on(sam_parts(6))
    partition, _ = partition_on(method)
    payload = {name: torch.zeros(1) for name in method.sent_in(0, partition.shared)}
    assert sorted(allow_only_shared(payload, method.share)) == list(partition.shared)
    for name in partition.local:
        with pytest.raises(EgressError, match="is local"):
            allow_only_shared({**payload, name: torch.zeros(1)}, method.share)


def test_the_other_trained_decoder_parts_are_shared_by_default_or_local() -> None:
    shared, _ = partition_on(iat())
    local, _ = partition_on(iat(heads="local"))
    assert shared.trained == local.trained
    heads = {name for name in shared.trained if matches_any(sam_parts(6).expand("@heads"), name)}
    assert len(heads) > 10
    assert heads <= set(shared.shared)
    assert heads <= set(local.local)


@pytest.mark.parametrize("encoder", ["A", "B"])
@pytest.mark.parametrize("decoder", ["A", "B"])
@pytest.mark.parametrize("sor_weight", [0.0, 0.1])
def test_all_eight_controls_are_arguments(encoder: str, decoder: str, sor_weight: float) -> None:
    method = iat(encoder_shares=encoder, decoder_shares=decoder, sor_weight=sor_weight)
    partition, _ = partition_on(method)
    assert factors(partition.shared) == {("image_encoder", encoder), ("mask_decoder", decoder)}
    assert len(partition.local) == len([n for n in partition.shared if ".lora." in n]) == 6 * 2 + 7 * 2
    (one,) = method.passes(0)
    assert [type(r) for r in one.regularizers] == ([SubspaceOrthogonality] if sor_weight else [])


@pytest.mark.parametrize(
    ("controls", "encoder", "decoder"),
    [
        ({}, 147_456, 28_672),  # IAT: encoder B, decoder A
        ({"encoder_shares": "A"}, 147_456, 28_672),  # FedSA-LoRA: every A
        ({"decoder_shares": "B"}, 147_456, 18_432),  # share-B: every B
    ],
)
def test_upload_of_vit_b_at_rank_8(controls: dict[str, str], encoder: int, decoder: int) -> None:
    """papers.md 1.5: IAT 176,128 values of LoRA a round, FedSA 176,128, all B 165,888."""
    partition, sizes = partition_on(iat(rank=8, **controls), "vit_b")  # type: ignore[arg-type]
    lora = {
        part: sum(sizes[name] for name in partition.shared if ".lora." in name and name.startswith(part))
        for part in ("image_encoder", "mask_decoder")
    }
    assert lora == {"image_encoder": encoder, "mask_decoder": decoder}
    assert sum(lora.values()) == {28_672: 176_128, 18_432: 165_888}[decoder]
    assert sum(sizes[name] for name in partition.shared) - sum(lora.values()) == 344_424  # the heads, C = 1


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"encoder_shares": "both"}, "encoder_shares is 'both'"),
        ({"decoder_shares": "b"}, "decoder_shares is 'b'"),
        ({"heads": "frozen"}, "heads is 'frozen'"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=f"iat: {found}"):
        iat(**arguments)


def test_it_has_no_global_model_and_says_why() -> None:
    method = iat()
    partition, _ = partition_on(method)
    assert method.serving.why_not("global", partition) == "26 tensors of the model are local to a site"
    assert method.serving.why_not("personal", partition) is None
    assert method.serving.why_not("unseen", partition) is None
