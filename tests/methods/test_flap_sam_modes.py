"""FLAP-SAM's seven fine-tuning modes on ViT-B at 224 px: the exact counts of reference/papers.md, section 3.1."""

from __future__ import annotations

import pytest
import torch

from sitelora.method import BEST_RANK, NO_MEAN
from sitelora.methods.fedavg_all import fedavg_all
from sitelora.methods.flap_sam import FACTORS, MODES, WITH_LORA, flap_sam
from sitelora.networks.sam import SamSegmenter
from sitelora.server.mean import WeightedMean
from sitelora.server.product import ProductMeanSVD
from sitelora.sharing.rule import Partition

TRAINED = {  # mode: values at C=1, at C=2
    "full_ft": (90_398_774, 90_532_927),
    "attn_ft": (29_574_784, 29_574_784),  # the table's 29.575M
    "attn_ft_text": (32_157_930, 32_292_083),
    "attn_ft_code": (29_919_208, 30_053_104),
    "dec_ft": (3_768_042, 3_902_195),
    "lora_ft": (1_368_064, 1_368_064),
    "lora_dec_ft": (5_136_106, 5_270_259),
    "pdec_ft": (344_424, 478_320),
    "flap_sam": (1_712_488, 1_846_384),
}


def adapted(mode: str, classes: int = 1, **arguments: str) -> tuple[Partition, dict[str, int], int]:
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224, classes=classes)
        partition = flap_sam(mode=mode, **arguments).adapt(network, seed=0)  # type: ignore[arg-type]
    sizes = {name: tensor.numel() for name, tensor in network.state_dict().items()}
    return partition, sizes, sum(p.numel() for p in network.parameters())


def test_there_is_a_count_for_every_mode() -> None:
    assert set(TRAINED) == set(MODES)


@pytest.mark.parametrize("mode", TRAINED)
@pytest.mark.parametrize("classes", [1, 2])
def test_trained_and_total_values(mode: str, classes: int) -> None:
    partition, sizes, total = adapted(mode, classes)
    assert sum(sizes[name] for name in partition.shared) == TRAINED[mode][classes - 1]
    assert partition.local == ()
    assert total == 90_398_774 + 134_153 * (classes - 1) + (1_368_064 if mode in WITH_LORA else 0)


@pytest.mark.parametrize("mode", ["full_ft", "lora_dec_ft", "flap_sam"])
def test_the_local_setting_trains_the_same_and_sends_nothing(mode: str) -> None:
    federated, local = adapted(mode)[0], adapted(mode, setting="local")[0]
    assert local.shared == ()
    assert local.local == federated.shared
    assert local.frozen == federated.frozen


def test_only_modes_with_lora_refactor_products() -> None:
    for mode in MODES:
        method = flap_sam(mode=mode)
        assert method.server == (ProductMeanSVD() if mode in WITH_LORA else WeightedMean())
        assert method.mean_product == (BEST_RANK if mode in WITH_LORA else NO_MEAN)


def test_full_fine_tuning_is_fedavg_of_everything() -> None:
    assert fedavg_all().share == flap_sam(mode="full_ft").share


def test_split_and_moments_are_selectable() -> None:
    assert flap_sam(split="symmetric").server == ProductMeanSVD(split="symmetric")
    assert flap_sam().fresh_moments == ()
    assert flap_sam(moments="reset").fresh_moments == FACTORS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "sam"}, "mode is 'sam'; expected one of"),
        ({"setting": "centralised"}, "expected one of .'federated', 'local'"),
        ({"moments": "forget"}, "moments is 'forget'"),
        ({"split": "U"}, "split is 'U'"),
    ],
)
def test_what_is_no_choice_is_refused(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        flap_sam(**arguments)  # type: ignore[arg-type]
