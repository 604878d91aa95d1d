"""Golden parameter counts of FLAP-SAM (ViT-B at 224 px), which agree with every row of the paper's tables."""

import pytest
import torch
from torch import nn

from sitelora.networks.sam import SamSegmenter


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def vit_b(classes: int, image_size: int = 224) -> SamSegmenter:
    with torch.device("meta"):
        return SamSegmenter(arch="vit_b", image_size=image_size, classes=classes)


@pytest.mark.parametrize(
    ("classes", "total", "decoder", "hyper", "tokens", "quality"),
    [(1, 90_398_774, 3_768_042, 267_280, 512, 132_098), (2, 90_532_927, 3_902_195, 400_920, 768, 132_355)],
)
def test_golden_counts(classes, total, decoder, hyper, tokens, quality):
    network = vit_b(classes)
    mask_decoder = network.mask_decoder
    assert count(network) == total
    assert count(network.image_encoder) == 86_624_512
    assert count(network.prompt_encoder) == 6_220
    assert count(mask_decoder) == decoder
    assert count(mask_decoder.transformer) == 3_291_264
    assert count(mask_decoder.output_upscaling) == 76_632
    assert count(mask_decoder.output_hypernetworks_mlps) == hyper
    assert count(mask_decoder.mask_tokens) == tokens
    assert count(mask_decoder.iou_token) == 256
    assert count(mask_decoder.iou_prediction_head) == quality
    trained_beside_lora = 76_632 + hyper + tokens
    assert trained_beside_lora == {1: 344_424, 2: 478_320}[classes]


@pytest.mark.parametrize("classes", [3, 5])
def test_closed_form_of_the_total(classes):
    assert count(vit_b(classes)) == 90_398_774 + 134_153 * (classes - 1)


@pytest.mark.parametrize(("image_size", "millions"), [(512, 91.053), (1024, 93.445)])
def test_tables_grow_with_the_image(image_size, millions):
    """The counts at other sizes by which the paper's 224 px was found."""
    assert round(count(vit_b(1, image_size)) / 1e6, 3) == millions


@pytest.mark.parametrize(("arch", "dim"), [("vit_l", 1024), ("vit_h", 1280)])
def test_the_large_ones_build_on_the_meta_device(arch, dim):
    with torch.device("meta"):
        network = SamSegmenter(arch=arch, image_size=224, base="/there/is/none.pth")
    assert network.image_encoder.pos_embed.shape == (1, 14, 14, dim)
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_upscaling_reaches_full_size_in_four_stages_for_patch_16():
    stages = [m for m in vit_b(1).mask_decoder.output_upscaling if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in stages] == [(256, 64), (64, 32), (32, 16), (16, 8)]


def test_sam_tiny_stays_small():
    with torch.device("meta"):
        network = SamSegmenter(arch="sam_tiny", image_size=128)
    assert count(network) == 3_630_966
