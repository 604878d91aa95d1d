"""Tokens and parameters of the published shapes, in closed form; timm's totals are those that timm publishes."""

import pytest
import torch
from torch import nn

from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def cinema():
    with torch.device("meta"):
        return CineClassifier(arch="cinema", image_size=192, slices=16)


def test_cinema_has_2304_tokens(cinema):
    assert cinema.encoder.stem.grid == (12, 12, 16)
    assert cinema.encoder.stem.pos_embed.shape == (1, 2304, 768)
    with torch.device("meta"):
        token, others = cinema.encoder(torch.empty(2, 2, 192, 192, 16))
    assert (token.shape, others.shape) == ((2, 768), (2, 2304, 768))


def test_cinemas_transformer_is_a_vit_base(cinema):
    d = 768
    norms, attention, mlp = 4 * d, 4 * d * d + 4 * d, 8 * d * d + 5 * d
    assert [count(block) for block in cinema.encoder.blocks] == [norms + attention + mlp] * 12 == [7_087_872] * 12
    for block in cinema.encoder.blocks:
        assert block.attn.q.weight.shape == (768, 768)
        assert block.attn.kv.weight.shape == (1536, 768)
    assert count(cinema.encoder.norm) + cinema.encoder.cls_token.numel() == 3 * d
    assert [c for stage in cinema.encoder.stem.conv_blocks for c in stage.patch_embed.conv.weight.shape] == [
        *(64, 2, 4, 4, 1),
        *(128, 64, 2, 2, 1),
    ]
    assert cinema.encoder.stem.patch_embed.proj.weight.shape == (768, 128 * 2 * 2)
    assert [convolution.weight.shape[1:] for convolution in cinema.encoder.fusion.down_convs] == [
        (64, 4, 4, 1),
        (128, 2, 2, 1),
    ]
    assert count(cinema) == 87_724_740
    assert count(cinema.head) == 2 * 2 * (d + 1)


def test_rank_8_on_q_and_kv_is_61440_values_of_two_blocks(cinema):
    """Med-DualLoRA's upload, whoever inserts it: A reads d, B writes what the projection writes."""
    attention = cinema.encoder.blocks[10].attn
    values = [8 * (module.in_features + module.out_features) for module in (attention.q, attention.kv)]
    assert 2 * sum(values) == 61_440
    assert 12 * sum(values) == 368_640


@pytest.mark.parametrize(("arch", "total"), [("vit_b16", 86_567_656), ("vit_s16", 22_050_664)])
def test_timms_totals(arch, total):
    with torch.device("meta"):
        network = PictureClassifier(arch=arch, image_size=224, classes=1000)
    assert count(network) == total
    assert network.encoder.pos_embed.shape[1] == 197


def test_the_embedded_ones_stay_small():
    with torch.device("meta"):
        cine = CineClassifier(arch="cine_tiny", image_size=96, slices=8)
        picture = PictureClassifier(arch="vit_tiny", image_size=128)
    assert (count(cine), cine.encoder.stem.grid) == (1_290_596, (6, 6, 8))
    assert (count(picture), picture.encoder.side) == (2_756_546, 16)
