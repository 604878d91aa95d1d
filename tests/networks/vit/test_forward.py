import logging

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from sitelora.networks.parts import Parts
from sitelora.networks.precision import set_precision
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier
from sitelora.networks.vit.positions import resized, sines
from sitelora.networks.vit.stem import Patches
from vit_toys import cine, picture

VOLUME, PICTURE = (2, 24, 24, 3), (3, 20, 20)
BOTH = [(cine, VOLUME, 48), (picture, PICTURE, 24)]


def images(shape, batch=3):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("make", "shape", "width"), BOTH)
def test_logits_are_the_heads_reading_of_the_features(make, shape, width):
    network = make(classes=4)
    logits, features = network(images(shape)), network.features(images(shape))
    assert logits.shape == (3, 4)
    assert features.shape == (3, width)
    torch.testing.assert_close(network.head(features), logits)


@pytest.mark.parametrize(("make", "shape", "width"), BOTH)
def test_a_batch_is_its_images(make, shape, width):
    network = make()
    alone = torch.cat([network(image[None]) for image in images(shape)])
    torch.testing.assert_close(network(images(shape)), alone, atol=1e-5, rtol=1e-5)


def test_both_heads_of_a_cine_network_count_alike():
    network = cine()
    mean, token = network.features(images(VOLUME)).chunk(2, dim=1)
    expected = (network.head.sax(mean) + network.head.cls(token)) / 2
    torch.testing.assert_close(network(images(VOLUME)), expected)


def test_both_phases_and_their_order_count():
    network, volume = cine(), images(VOLUME)
    assert (network(volume) - network(volume.flip(1))).abs().max() > 1e-4


def test_grey_is_three_equal_colours():
    network, grey = picture(), images((1, 20, 20))
    torch.testing.assert_close(network(grey), network(grey.repeat(1, 3, 1, 1)))


def test_a_picture_networks_pool_is_what_its_head_reads():
    token, others = picture().encoder(picture().ready(images(PICTURE)))
    torch.testing.assert_close(picture().features(images(PICTURE)), token)
    torch.testing.assert_close(picture(arch="toy_mean").features(images(PICTURE)), others.mean(1))


@pytest.mark.parametrize(("make", "shape", "width"), BOTH)
def test_what_is_hidden_is_not_seen(make, shape, width):
    """Masked autoencoding would be no task if a hidden patch shone through the convolutions or the attention."""
    network, image = make(), images(shape, batch=2)
    tokens = network.encoder(network.ready(image))[1].shape[1]
    hidden = torch.rand(2, tokens, generator=torch.Generator().manual_seed(1)).argsort(1) < tokens // 2
    if make is cine:
        grid = hidden.unflatten(1, network.encoder.stem.grid)[:, None]
        pixels = grid.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    else:
        pixels = hidden.unflatten(1, (5, 5))[:, None].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    painted = torch.where(pixels, torch.rand_like(image), image)
    assert not torch.equal(painted, image)
    for before, after in zip(
        network.encoder(network.ready(image), hidden), network.encoder(network.ready(painted), hidden), strict=True
    ):
        torch.testing.assert_close(before, after)
    assert network.encoder(network.ready(image), hidden)[1].shape == (2, tokens - tokens // 2, 24)


@pytest.mark.usefixtures("bf16_anywhere")
@pytest.mark.parametrize(("make", "shape", "width"), BOTH)
def test_bf16_is_near_fp32_and_stored_where_frozen(make, shape, width):
    network = make()
    exact = network(images(shape)).detach()
    network.requires_grad_(False)
    network.encoder.blocks[1].attn.proj.requires_grad_(True)
    set_precision(network, "bf16")
    rounded = network(images(shape))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            trained = module.weight.requires_grad
            assert module.weight.dtype == (torch.float32 if trained else torch.bfloat16)
    rounded.square().mean().backward()
    assert torch.isfinite(network.encoder.blocks[1].attn.proj.weight.grad).all()


@pytest.mark.usefixtures("bf16_anywhere")
def test_a_head_computes_in_fp32():
    """Thousands of cases need more than bf16's 256 different probabilities between a half and one."""
    network = picture(precision="bf16")
    logits = network(images(PICTURE, batch=64))
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (cine, (2, 1, 24, 24, 3)),
        (cine, (2, 2, 24, 24)),
        (cine, (2, 2, 24, 24, 4)),
        (picture, (2, 2, 20, 20)),
        (picture, (2, 3, 20, 24)),
        (picture, (3, 20, 20)),
    ],
)
def test_another_shape_is_refused_with_what_to_do(make, shape):
    with pytest.raises(ValueError, match=r"expected \[B, .*crop(ped)? to image_size=2"):
        make()(torch.rand(shape))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (cine, {"image_size": 20}, "a multiple of 8, the patch of toy; for example 16"),
        (cine, {"slices": 0}, "slices is 0"),
        (cine, {"arch": "vit_b16"}, "vit_b16.*cine_tiny.*cinema"),
        (cine, {"classes": 1}, "classes=1, expected at least 2"),
        (cine, {"precision": "fp16"}, "precision='fp16'"),
        (picture, {"image_size": 21}, "a multiple of 4"),
        (picture, {"arch": "cinema"}, "cinema.*vit_tiny"),
        (picture, {"base": "embedded"}, "found arch='toy'; name the path of its checkpoint"),
    ],
)
def test_impossible_settings_are_refused(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(("make", "shape", "width"), BOTH)
def test_a_metatensor_comes_in_and_a_plain_tensor_goes_out(make, shape, width):
    logits = make()(MetaTensor(images(shape)))
    assert type(logits) is torch.Tensor
    torch.testing.assert_close(logits, make()(images(shape)))


@pytest.mark.parametrize("make", [cine, picture])
def test_initial_values_depend_on_seed_and_name_only(make):
    state = torch.random.get_rng_state()
    first = make(seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    second, other = make(seed=3, classes=4), make(seed=4)
    for name, value in first.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, second.state_dict()[name])
    weight = "encoder.blocks.0.mlp.fc1.weight"
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
    assert first.base_fingerprint == make(seed=3).base_fingerprint != other.base_fingerprint


@pytest.mark.parametrize(("make", "network"), [(cine, CineClassifier), (picture, PictureClassifier)])
def test_without_values_it_has_shapes_and_its_parts_are_known_before(make, network):
    with torch.device("meta"):
        built = make(base="/there/is/none.pth")
    assert all(tensor.is_meta for tensor in built.state_dict().values())
    assert built.base_fingerprint is None
    arguments = {"arch": "toy", "image_size": built.size[0], "slices": 3}
    parts: Parts = network.parts_for(**arguments)
    assert parts == built.parts
    modules = dict(built.named_modules())
    for name in ("encoder", "heads", "blocks"):
        assert all(member in modules for member in parts.members[name])
    assert parts.members["decoder"] == ()
    with pytest.raises(ValueError, match="a multiple of"):
        network.parts_for(**arguments | {"image_size": 21})


def test_every_projection_is_declared_with_what_it_holds():
    for network, fused in ((cine(), {"q": ("q",), "kv": ("k", "v")}), (picture(), {"qkv": ("q", "k", "v")})):
        held = {projection.where: projection.holds for projection in network.parts.projections}
        assert {where.removeprefix("encoder.blocks.*.attn."): holds for where, holds in held.items()} == fused | {
            "proj": ("out",), "encoder.blocks.*.mlp.fc1": ("mlp_in",), "encoder.blocks.*.mlp.fc2": ("mlp_out",)
        }  # fmt: skip


def test_a_random_base_is_never_silent(caplog):
    with caplog.at_level(logging.WARNING):
        picture()
        with torch.device("meta"):
            picture(quiet=False)
        assert not caplog.records
        picture(quiet=False)
    assert "toy has a RANDOM base" in caplog.text


def test_places_of_a_volume_are_cinemas():
    """Its table: the shares of columns, rows and slices, sines before cosines, slices running fastest."""
    table = sines((2, 2, 3), 26)[0]
    assert table.shape == (12, 26)
    row, column, slice_ = 1, 0, 2
    entry = table[row * 6 + column * 3 + slice_]
    rates = 10_000 ** -(torch.arange(4) / 4)
    expected = [part for place in (column, row, slice_) for part in ((place * rates).sin(), (place * rates).cos())]
    torch.testing.assert_close(entry, torch.cat([*expected, torch.zeros(2)]))


def test_a_resized_table_keeps_the_class_tokens_row_and_smooth_ramps():
    side = torch.linspace(0, 1, 8)
    ramp = torch.cat([torch.full((1, 1, 1), 9.0), side[:, None].expand(8, 8).reshape(1, 64, 1)], dim=1)
    half = resized(ramp, 4)
    assert half[0, 0, 0] == 9
    grid = half[0, 1:, 0].reshape(4, 4)
    assert torch.allclose(grid, grid[:, :1].expand(4, 4), atol=1e-5)
    assert (grid[1:, 0] > grid[:-1, 0]).all()


def test_patches_are_flattened_as_cinema_does():
    """Place within the patch first, channel last, so that a published projection fits."""
    patches = Patches(3, 12, 2)
    patches.proj = nn.Identity()
    x = torch.arange(1.0, 3 * 4 * 4 * 2 + 1).reshape(1, 3, 4, 4, 2)
    tokens = patches(x)
    assert tokens.shape == (1, 8, 12)
    row, column, slice_ = 1, 0, 1
    cut = x[0, :, 2:4, 0:2, slice_]  # [c, p, q]
    assert torch.equal(tokens[0, row * 4 + column * 2 + slice_], cut.permute(1, 2, 0).flatten())
