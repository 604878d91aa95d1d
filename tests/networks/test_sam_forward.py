import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor

import sitelora
from sitelora.networks.sam import SamSegmenter, base_fingerprint
from sitelora.networks.upstream import load_modeling


def toy(**changes):
    settings = {"arch": "toy", "image_size": 64, "quiet": True, "precision": "fp32"} | changes
    return SamSegmenter(**settings).eval()


def test_pictures_and_volumes_keep_their_shape():
    network = toy(classes=2)
    assert network(torch.rand(2, 1, 64, 64)).shape == (2, 3, 64, 64)
    assert network(torch.rand(2, 3, 64, 64, 5)).shape == (2, 3, 64, 64, 5)


def test_a_volume_is_its_slices():
    network = toy()
    volume = torch.rand(2, 1, 64, 64, 3)
    whole = network(volume)
    for index in range(3):
        torch.testing.assert_close(whole[..., index], network(volume[..., index]), atol=1e-6, rtol=1e-5)


def test_one_channel_is_three_equal_ones():
    network = toy()
    grey = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(network(grey), network(grey.repeat(1, 3, 1, 1)))


def test_a_batch_is_its_pictures_with_and_without_points():
    for network in (toy(), toy(point_grid=2)):
        pictures = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        alone = torch.cat([network(picture[None]) for picture in pictures])
        torch.testing.assert_close(network(pictures), alone, atol=1e-5, rtol=1e-5)


def test_points_form_a_regular_grid_of_foreground():
    points, labels = toy(point_grid=2)._grid_points(torch.device("cpu"))
    assert points.tolist() == [[[16.0, 16.0], [48.0, 16.0], [16.0, 48.0], [48.0, 48.0]]]
    assert labels.tolist() == [[1.0] * 4]


def test_prompts_change_the_answer():
    network = toy()
    picture = torch.rand(1, 3, 64, 64)
    plain = network(picture)
    box = network.segment(picture, boxes=torch.tensor([[4.0, 4.0, 40.0, 40.0]]))
    point = network.segment(picture, points=(torch.tensor([[[9.0, 9.0]]]), torch.ones(1, 1)))
    grid = toy(point_grid=3)(picture)
    for other in (box, point, grid):
        assert (plain - other).abs().max() > 1e-4


@pytest.mark.parametrize("shape", [(2, 1, 32, 64), (1, 2, 64, 64), (1, 64, 64), (1, 1, 64, 64, 2, 2)])
def test_another_shape_is_refused_with_what_to_do(shape):
    with pytest.raises(ValueError, match=r"expected \[B, 1 or 3, 64, 64\].*resize or crop"):
        toy()(torch.rand(shape))


@pytest.mark.usefixtures("bf16_anywhere")
@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8, torch.bfloat16])
def test_output_is_fp32_whatever_comes_in(dtype):
    for precision in ("fp32", "bf16"):
        assert toy(precision=precision)(torch.ones(1, 1, 64, 64).to(dtype)).dtype == torch.float32


def test_metadata_of_a_metatensor_survives():
    affine = torch.diag(torch.tensor([0.5, 0.5, 3.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(1, 64, 64, 2), affine=affine, meta={"filename_or_obj": "case.nii.gz"})
    network = toy()
    logits = network(image[None])
    assert isinstance(logits, MetaTensor)
    assert logits.meta["filename_or_obj"] == "case.nii.gz"
    torch.testing.assert_close(logits.affine, affine)
    torch.testing.assert_close(logits.as_tensor(), network(image[None].as_tensor()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 60}, "a multiple of 16, the patch of toy"),
        ({"classes": 0}, "classes=0"),
        ({"arch": "vit_g"}, "vit_g.*sam_tiny"),
        ({"precision": "fp16"}, "precision='fp16'"),
        ({"attention": "flash"}, "attention='flash'"),
        ({"base": "embedded"}, "name the path of its checkpoint"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        toy(**changes)


def test_same_decoder_as_meta_where_meta_has_one():
    """Patch 4 needs Meta's own two upscaling stages: with its tensors, its masks come out, all four of them."""
    modeling = load_modeling()
    torch.manual_seed(0)
    theirs = modeling.MaskDecoder(
        transformer_dim=32, iou_head_hidden_dim=32,
        transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=16, num_heads=2),
    )  # fmt: skip
    network = toy(arch="toy4", image_size=24, classes=3)
    network.mask_decoder.load_state_dict(theirs.state_dict())
    picture = torch.rand(1, 3, 24, 24)
    sparse, dense = network.prompt_encoder(None, None, None)
    masks, _ = theirs.predict_masks(
        image_embeddings=network.encode(picture), image_pe=network.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense,
    )  # fmt: skip
    torch.testing.assert_close(network(picture), masks)


def test_initial_values_depend_on_seed_and_name_only():
    state = torch.random.get_rng_state()
    first = toy(seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(7)
    second, more_classes, other = toy(seed=3), toy(seed=3, classes=4), toy(seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        if value.shape == more_classes.state_dict()[name].shape:
            assert torch.equal(value, more_classes.state_dict()[name])
    weight = "image_encoder.blocks.0.mlp.lin1.weight"
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
    assert first.state_dict()[weight].abs().max() <= 1 / 24**0.5  # nn.Linear's own range


@pytest.mark.usefixtures("bf16_anywhere")
def test_fingerprint_is_of_the_values_as_loaded():
    network = toy(seed=3)
    before = base_fingerprint(network)
    assert before == base_fingerprint(toy(seed=3, precision="bf16", attention="folded"))
    assert before != base_fingerprint(toy(seed=4))
    with torch.no_grad():
        network.mask_decoder.iou_token.weight.add_(1)
    assert base_fingerprint(network) == before
    with torch.device("meta"), pytest.raises(ValueError, match="meta device"):
        base_fingerprint(toy())


def test_a_random_base_is_never_silent(caplog):
    with caplog.at_level(logging.WARNING):
        toy()
        assert not caplog.records
        with torch.device("meta"):
            toy(quiet=False)
        assert not caplog.records
        toy(quiet=False)
    assert "RANDOM base" in caplog.text


def test_hooks_where_adapters_attach_are_called():
    network = toy()
    called = []
    names = (
        "image_encoder.blocks.0.attn.qkv", "image_encoder.blocks.0.attn", "image_encoder.blocks.1.mlp",
        "mask_decoder.transformer.layers.0.self_attn.q_proj",
        "mask_decoder.transformer.layers.1.cross_attn_image_to_token.v_proj",
        "mask_decoder.transformer.final_attn_token_to_image.v_proj",
    )  # fmt: skip
    for name in names:
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    network(torch.rand(1, 1, 64, 64))
    assert sorted(called) == sorted(names)


def test_neither_torchvision_nor_the_hosts_are_imported():
    script = (
        "import sys, sitelora.networks.sam as s; s.SamSegmenter(arch='sam_tiny', image_size=64, quiet=True);"
        "print(sorted(set(sys.modules) & {'torchvision', 'segment_anything', 'nvflare', 'monai'}))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(sitelora.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == "[]"
