"""What Med-DualLoRA uploads on CineMA's transformer: 61,440 values for two blocks, 368,640 for twelve."""

from __future__ import annotations

import pytest
import torch

from sitelora.methods.fedopal import fedopal
from sitelora.methods.med_duallora import med_duallora
from sitelora.networks.vit.cine import CineClassifier


@pytest.mark.parametrize(
    ("blocks", "rank", "values"),
    [(2, 8, 61_440), (0, 8, 368_640), (2, 4, 30_720), (2, 16, 122_880)],
)
def test_the_global_pairs_of_q_and_kv_on_the_vit_base(blocks: int, rank: int, values: int) -> None:
    with torch.device("meta"):
        network = CineClassifier(arch="cinema", image_size=192, slices=16)
        partition = med_duallora(blocks=blocks, rank=rank).adapt(network, seed=0)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    adapters = [name for name in partition.shared if ".global." in name]
    assert sum(shapes[name].numel() for name in adapters) == values
    assert {name for name in partition.shared} - {*adapters} == {n for n in shapes if n.startswith("head.")}
    assert len(partition.local) == len(adapters)
    last = {f"encoder.blocks.{number}" for number in (range(12) if blocks == 0 else (10, 11))}
    assert {".".join(name.split(".")[:3]) for name in adapters} == last
    assert {name.removesuffix(".global.A").rsplit(".", 1)[-1] for name in adapters if name.endswith(".A")} == {
        "q",
        "kv",
    }


def test_fedopal_on_the_same_blocks_and_projections_sends_as_much() -> None:
    with torch.device("meta"):
        network = CineClassifier(arch="cinema", image_size=192, slices=16)
        partition = fedopal(blocks=2, on="q,kv").adapt(network, seed=0)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    assert sum(shapes[name].numel() for name in partition.shared if ".global." in name) == 61_440
