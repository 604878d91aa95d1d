"""What each baseline shares, keeps and freezes on ViT-B at 224 px, rank 8, and what is its own beside that."""

from __future__ import annotations

import pytest
import torch

from sitelora.method_registry import find_method
from sitelora.methods.feddpa import feddpa
from sitelora.methods.fedprox import fedprox
from sitelora.methods.fedsa_lora import fedsa_lora
from sitelora.methods.flexlora import flexlora
from sitelora.methods.hetlora import hetlora
from sitelora.methods.iat import iat
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.sam_parts import sam_parts
from sitelora.regularizers.proximal import Proximal
from sitelora.sharing.patterns import matches_any
from sitelora.sharing.rule import Partition

A, B, HEAD_VALUES = 176_128, 165_888, 344_424  # all A, all B; upscaling, hyper-networks and mask tokens at C=1


def vit_b(name: str, **arguments: object) -> tuple[Partition, dict[str, int]]:
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224)
        partition = find_method(name)(**arguments).adapt(network, seed=0)
    return partition, {n: tensor.numel() for n, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "shared", "local", "frozen_factors"),
    [
        ("fedavg_lora", A + B + HEAD_VALUES, 0, 0),
        ("ffa_lora", B + HEAD_VALUES, 0, A),
        ("fedsa_lora", A + HEAD_VALUES, B, 0),
        ("share_b", B + HEAD_VALUES, A, 0),
        ("fedprox", A + B + HEAD_VALUES, 0, 0),
        ("fedper", A + B, HEAD_VALUES, 0),
        ("flora", A + B + HEAD_VALUES, 0, 0),
        ("flexlora", A + B + HEAD_VALUES, 0, 0),
        ("hetlora", A + B + HEAD_VALUES, 0, 0),
        ("feddpa", A + B + HEAD_VALUES, A + B, 0),
        ("local", 0, A + B + HEAD_VALUES, 0),
        ("fedavg_all", 90_398_774, 0, 0),
    ],
)
def test_values_shared_local_and_frozen(name: str, shared: int, local: int, frozen_factors: int) -> None:
    partition, sizes = vit_b(name)
    assert sum(sizes[n] for n in partition.shared) == shared
    assert sum(sizes[n] for n in partition.local) == local
    assert sum(sizes[n] for n in partition.frozen if n.endswith((".A", ".B"))) == frozen_factors


def test_fedsa_is_iats_control_with_both_shares_a() -> None:
    assert vit_b("fedsa_lora")[0] == vit_b("iat", encoder_shares="A", decoder_shares="A")[0]
    assert vit_b("share_b")[0] == vit_b("iat", encoder_shares="B", decoder_shares="B")[0]
    assert iat(encoder_shares="A", decoder_shares="A", sor_weight=0).server == fedsa_lora().server


def test_fedsas_official_settings_keep_the_heads() -> None:
    partition, _ = vit_b("fedsa_lora", heads="local")
    assert {name for name in partition.local if not name.endswith(".B")} == {
        name for name in partition.trained if matches_any(sam_parts(6).expand("@heads"), name)
    }
    with pytest.raises(ValueError, match="heads is 'none'"):
        fedsa_lora(heads="none")


def test_fedprox_pulls_with_mu() -> None:
    assert fedprox(mu=0.5).regularizers == (Proximal(weight=0.5),)


def test_feddpa_trains_its_local_adapter_beside_a_weakened_global_one_then_the_global_one_alone() -> None:
    method = feddpa(mixing=0.3).on(sam_parts(12))
    first, second = method.passes(4)
    assert first.strengths == {"local": 0.3, "global": 0.7}
    assert second.strengths == {"local": 0.0}
    assert first.trains_tensor("image_encoder.blocks.0.attn.qkv.local.q.A")
    assert not first.trains_tensor("image_encoder.blocks.0.attn.qkv.global.q.A")
    assert not second.trains_tensor("image_encoder.blocks.0.attn.qkv.local.q.A")
    partition, _ = vit_b("feddpa")
    assert method.sent_in(0, partition.shared) == partition.shared
    assert method.serving.why_not("global", partition) is None
    assert method.serving.strengths_of("personal") == first.strengths
    assert method.serving.strengths_of("unseen") == {"local": 0.0}
    with pytest.raises(ValueError, match="mixing is 0"):
        feddpa(mixing=0)


@pytest.mark.parametrize("function", [hetlora, flexlora])
def test_ranks_differ_by_site_by_name_or_by_number(function: object) -> None:
    method = function(rank=8, ranks={"site-3": 5})  # type: ignore[operator]
    sites = ("site-1", "site-2", "site-3", "site-4", "site-6", "montgomery", "*")
    assert [method.ranks.of(site) for site in sites] == [8, 4, 5, 8, 2, 8, 8]
    assert {function(rule="full").ranks.of(f"site-{n}") for n in range(1, 7)} == {8}  # type: ignore[operator]
    with pytest.raises(ValueError, match="site-1 has rank 16; expected 1 to 8"):
        function(ranks={"site-1": 16})  # type: ignore[operator]
