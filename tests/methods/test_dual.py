"""Med-DualLoRA and FedOPAL as values: what leaves, what is served, their ablations, and what makes them one method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fingerprints import two_rounds
from fixed_input import write_fixed_input
from sitelora.federation.run_folder import RunFolder
from sitelora.method import BEST_RANK, INEXACT, NO_MEAN, Method
from sitelora.methods.fedopal import fedopal
from sitelora.methods.med_duallora import med_duallora
from sitelora.networks.sam import SamSegmenter
from sitelora.run_result import RunResult
from sitelora.server.mean import WeightedMean
from sitelora.server.product import ProductMeanSVD
from sitelora.sharing.rule import Partition


def partition_on(method: Method) -> tuple[Partition, dict[str, int]]:
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224)
        partition = method.adapt(network, seed=0)
    return partition, {name: tensor.numel() for name, tensor in network.state_dict().items()}


def of_role(names: tuple[str, ...], role: str) -> set[str]:
    return {name for name in names if f".{role}." in name}


def is_adapters(name: str) -> bool:
    return name.endswith((".A", ".B"))


def blocks_of(names: set[str]) -> set[int]:
    return {int(name.split(".")[2]) for name in names}


@pytest.mark.parametrize("make", [med_duallora, fedopal])
@pytest.mark.parametrize("head", ["shared", "local"])
def test_the_global_adapter_travels_and_the_local_one_stays(make: Any, head: str) -> None:
    partition, _ = partition_on(make(head=head))
    for role, kind in (("global", partition.shared), ("local", partition.local)):
        assert of_role(partition.trained, role) == {name for name in kind if is_adapters(name)} != set()
    heads = {name for name in partition.trained if not is_adapters(name)}
    assert heads
    assert heads <= set(getattr(partition, head))


@pytest.mark.parametrize(
    ("method", "blocks", "total"),
    [
        (med_duallora(), {10, 11}, 61_440),
        (med_duallora(blocks=0), set(range(12)), 368_640),
        (med_duallora(blocks=12, rank=16), set(range(12)), 737_280),
        (fedopal(blocks=1), {11}, 24_576),
        (fedopal(), set(range(12)), 294_912),
    ],
)
def test_how_many_blocks_is_one_number_and_says_what_leaves(method: Method, blocks: set[int], total: int) -> None:
    """On SAM's fused qkv, whose q and kv have as many values as separate ones; see also test_dual_counts.py."""
    partition, sizes = partition_on(method)
    leaving = of_role(partition.shared, "global")
    assert blocks_of(leaving) == blocks_of(of_role(partition.local, "local")) == blocks
    assert sum(sizes[name] for name in leaving) == total


@pytest.mark.parametrize(
    ("mode", "shared", "local", "claim"),
    [("dual", "global", "local", INEXACT), ("global", "global", "", INEXACT), ("local", "", "local", NO_MEAN)],
)
def test_either_adapter_can_be_there_alone(mode: str, shared: str, local: str, claim: str) -> None:
    method = med_duallora(mode=mode)
    partition, _ = partition_on(method)
    assert {adapter.role for adapter in method.adapters} == {role for role in (shared, local) if role}
    assert {name.split(".")[5] for name in partition.shared if is_adapters(name)} == {shared} - {""}
    assert {name.split(".")[5] for name in partition.local if is_adapters(name)} == {local} - {""}
    assert method.mean_product == claim
    assert bool(partition.shared) == (mode != "local")


@pytest.mark.parametrize("make", [med_duallora, fedopal])
def test_a_site_is_served_both_adapters_and_a_new_vendor_the_global_one(make: Any) -> None:
    method = make()
    partition, _ = partition_on(method)
    assert method.serving.strengths_of("personal") == {}
    for kind in ("global", "unseen"):
        assert method.serving.strengths_of(kind) == {"local": 0.0}
        assert method.serving.why_not(kind, partition) is None
    alone, _ = partition_on(make(head="local"))
    assert "local to a site" in str(make(head="local").serving.why_not("global", alone))


def test_pairs_are_averaged_by_factor_or_by_product() -> None:
    assert med_duallora().server == WeightedMean()
    assert med_duallora(aggregation="product").server == ProductMeanSVD()
    assert med_duallora(aggregation="product").mean_product == BEST_RANK


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (med_duallora, {"mode": "both"}),
        (med_duallora, {"on": "v"}),
        (med_duallora, {"aggregation": "mean"}),
        (fedopal, {"head": "frozen"}),
        (fedopal, {"orthogonal": "outputs"}),
    ],
)
def test_values_that_cannot_be_are_refused(make: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected one of"):
        make(**values)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fixed_input(tmp_path_factory.mktemp("fixed_input"))


def test_fedopal_without_its_regularizer_is_med_duallora_bit_for_bit(data: Path, tmp_path: Path) -> None:
    found = [
        two_rounds(name, data=data, home=tmp_path / name)
        for name in ("med_duallora+blocks=1", "fedopal+weight=0+blocks=1+on=q,kv", "fedopal+blocks=1+on=q,kv")
    ]
    assert found[0].keys() == found[1].keys()
    assert [name for name, tensor in found[0].items() if not torch.equal(tensor, found[1][name])] == []
    assert [name for name, tensor in found[0].items() if not torch.equal(tensor, found[2][name])] != []


@pytest.mark.parametrize("orthogonal", ["both_factors", "representations"])
def test_the_regularizer_acts_within_its_share_and_the_record_says_so(
    orthogonal: str, data: Path, tmp_path: Path
) -> None:
    two_rounds(f"fedopal+blocks=1+weight=100+orthogonal={orthogonal}", data=data, home=tmp_path)
    record = RunResult.read(RunFolder.of(tmp_path, "fingerprint", "run").result)
    shares = [entry.metrics for entry in record.rounds[1].sites.values()]
    for metrics in shares:
        assert 0 < metrics["regularizer_share"] <= 0.5 + 1e-6
        assert metrics["regularizer_share_unbounded"] >= metrics["regularizer_share"]
