"""`sitelora methods` against the exact counts on ViT-B at 224 px, and its words against the share rules."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from sitelora.cli import main
from sitelora.commands._method_costs import MethodCost, method_cost
from sitelora.egress import egress_statement
from sitelora.method_registry import method_names
from sitelora.networks.sam import SamSegmenter


@pytest.fixture(scope="module")
def vit_b() -> nn.Module:
    with torch.device("meta"):
        return SamSegmenter(arch="vit_b", image_size=224)


def cost(name: str, network: nn.Module, **arguments: int) -> MethodCost:
    return method_cost(name, network, sites=3, arguments={"rank": 8, **arguments})


@pytest.mark.parametrize(
    ("name", "values", "shared"),
    [
        ("iat", 176_128 + 344_424, "LoRA encoder B, decoder A; heads"),
        ("fedsa_lora", 176_128 + 344_424, "LoRA A; heads"),
        ("ffa_lora", 165_888 + 344_424, "LoRA B; heads"),
        ("fedper", 342_016, "LoRA A and B"),
        ("feddpa", 342_016 + 344_424, "global LoRA A and B; heads"),
        ("fedsca", 12 * 295_872, "bottleneck adapters of blocks 0 to 5"),
        ("fedavg_all", 90_398_774, "the whole network"),
        ("local", 0, "nothing"),
    ],
)
def test_values_and_words(vit_b: nn.Module, name: str, values: int, shared: str) -> None:
    found = cost(name, vit_b)
    assert found.values == (values, values)
    assert found.bytes_up == (2 * values, 2 * values)
    assert found.bytes_down == 2 * values
    assert found.shared == shared


def test_what_differs_between_rounds_and_directions(vit_b: nn.Module) -> None:
    assert cost("rolora", vit_b).values == (165_888 + 344_424, 176_128 + 344_424)
    assert cost("scaffold", vit_b).values == (2 * 686_440, 2 * 686_440)
    # three sites: a base delta of three times the rank, or of twice where the averaged pair carries the rest
    assert cost("flora", vit_b).bytes_down == 2 * (686_440 + 3 * 342_016)
    assert cost("fedex_lora", vit_b).bytes_down == 2 * (686_440 + 2 * 342_016)
    assert cost("flap_sam", vit_b, rank=32).values[0] == 1_712_488


@pytest.mark.parametrize("name", ["iat", "scaffold", "flora", "rolora"])
def test_it_is_what_the_egress_statement_says(vit_b: nn.Module, name: str) -> None:
    values = {"method": name, "method#rank": 8, "arch": "vit_b", "image_size": 224}
    statement = egress_statement("iat_segmentation", values, rounds=3, sites=2)
    found = method_cost(name, vit_b, sites=2, arguments={"rank": 8})
    assert statement.bytes_up[:2] == found.bytes_up
    assert statement.bytes_down[1] == found.bytes_down


def test_one_line_a_method_and_one_methods_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--rank", "8"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.split("\n\n")[0].splitlines()[1:]}
    assert sorted(rows) == method_names()
    assert all("arXiv:" in line for name, line in rows.items() if not name.startswith("local"))
    assert max(len(line) for line in out.splitlines()) <= 150
    assert main(["methods", "hetlora"]) == 0
    words = capsys.readouterr().out
    assert words.startswith("HetLoRA (Cho et al. 2024")
    assert "method#ranks=None" in words


def test_a_method_that_has_no_meaning_on_a_network_says_so_below_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--bundle", "med_duallora_classification"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^med_duallora +arXiv:2603.10967 +global LoRA A and B; heads +10,756 ", told, re.MULTILINE)
    assert re.search(r"^iat: this network has no decoder", told, re.MULTILINE)
    assert not re.search(r"^iat +arXiv", told, re.MULTILINE)
