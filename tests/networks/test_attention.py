import pytest
import torch

from sitelora.networks.attention import FoldedAttention
from sitelora.networks.packed_attention import PackedAttention
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.upstream import load_modeling


def theirs_and_ours(kind, side):
    torch.manual_seed(0)
    theirs, ours = (
        make(48, num_heads=3, use_rel_pos=True, input_size=(side, side))
        for make in (load_modeling().image_encoder.Attention, kind)
    )
    for table in (theirs.rel_pos_h, theirs.rel_pos_w):
        torch.nn.init.normal_(table, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("kind", [FoldedAttention, PackedAttention])
@pytest.mark.parametrize(("side", "batch"), [(14, 2), (8, 3), (32, 1)], ids=["window 14", "window 8", "global 32"])
def test_it_equals_segment_anythings(side, batch, kind):
    theirs, ours = theirs_and_ours(kind, side)
    x = torch.randn(batch, side, side, 48)
    weight = torch.randn(batch, side, side, 48)
    results = []
    for module in (theirs, ours):
        given = x.clone().requires_grad_()
        out = module(given)
        (out * weight).mean().backward()
        results.append([out, given.grad, *(parameter.grad for parameter in module.parameters())])
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 4, 48), (1, 6, 3, 48)])
def test_packed_attention_takes_tables_of_another_side_and_no_square_as_theirs_does(shape):
    theirs, ours = theirs_and_ours(PackedAttention, 8)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_packed_attention_under_autocast_is_as_far_from_fp32_as_theirs():
    """Values and gradients in bf16 lie within 2 % of fp32's norm, at most half further off than segment_anything's."""
    theirs, ours = theirs_and_ours(PackedAttention, 14)
    x = torch.randn(2, 14, 14, 48)

    def ends(module, enabled):
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = module(given)
        (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        return [out.float(), given.grad]

    for exact, own, packed in zip(ends(theirs, False), ends(theirs, True), ends(ours, True), strict=True):
        far = ((packed - exact).norm() / exact.norm()).item()
        assert far < 0.02
        assert far < 1.5 * ((own - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("choice", ["packed", "folded"])
def test_a_whole_network_is_the_same_with_windows_that_need_padding(choice):
    settings = {"arch": "toy", "image_size": 80, "precision": "fp32", "quiet": True}
    outputs = []
    for attention in ("segment_anything", choice):
        network = SamSegmenter(attention=attention, **settings)
        for name, parameter in network.named_parameters():
            if "rel_pos" in name:
                generator = torch.Generator().manual_seed(len(name))
                parameter.data = torch.randn(parameter.shape, generator=generator)
        outputs.append(network(torch.linspace(0, 1, 6400).reshape(1, 1, 80, 80)))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)


def test_the_state_has_the_same_names_under_either():
    with torch.device("meta"):
        names = [
            list(SamSegmenter(arch="toy", image_size=64, attention=a).state_dict())
            for a in ("segment_anything", "packed", "folded")
        ]
    assert names[0] == names[1] == names[2]


@pytest.mark.parametrize(("image_size", "folded"), [(224, set()), (512, set()), (1024, {2, 5, 8, 11})])
def test_auto_folds_only_the_long_ones(image_size, folded):
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=image_size)
    blocks = network.image_encoder.blocks
    assert {i for i, block in enumerate(blocks) if isinstance(block.attn, FoldedAttention)} == folded
    assert {i for i, block in enumerate(blocks) if isinstance(block.attn, PackedAttention)} == set(range(12)) - folded
