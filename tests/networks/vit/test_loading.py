"""Files with the names that CineMA's and timm's public code gives them, at a toy's size and with random values."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from sitelora.networks.tensor_file import CheckpointError
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.loading import OUR_FORMAT
from sitelora.networks.vit.picture import PictureClassifier
from sitelora.networks.vit.positions import resized, sines
from vit_toys import cine, picture


def randoms(shapes):
    torch.manual_seed(1)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def linear(name, d_in, d_out):
    return {f"{name}.weight": (d_out, d_in), f"{name}.bias": (d_out,)}


def norm(name, d):
    return {f"{name}.weight": (d,), f"{name}.bias": (d,)}


def block(name, d, *, attention):
    shapes = {**norm(f"{name}.norm1", d), **norm(f"{name}.norm2", d), **linear(f"{name}.attn.proj", d, d)}
    for projection, parts in attention.items():
        shapes |= linear(f"{name}.attn.{projection}", d, parts * d)
    return shapes | linear(f"{name}.mlp.fc1", d, 4 * d) | linear(f"{name}.mlp.fc2", 4 * d, d)


def view(name, frames, d=24, axes=3, tokens=27):
    """What CineMA has of a view: three axes are the short-axis stack, two a long-axis picture."""
    unit = (1,) * axes

    def across(size):
        return (size, size, 1)[:axes]

    shapes, down = {}, f"enc_down_dict.{name}"
    for place, (before, channels) in enumerate(((frames, 4), (4, 6))):
        stage = f"{down}.conv_blocks.{place}"
        shapes[f"{stage}.patch_embed.conv.weight"] = (channels, before, *across(2))
        shapes[f"{stage}.patch_embed.conv.bias"] = (channels,)
        shapes |= norm(f"{stage}.patch_embed.norm", channels)
        for number in range(2):
            inner = f"{stage}.conv.{number}"
            shapes |= norm(f"{inner}.norm1", channels) | norm(f"{inner}.norm2", channels)
            sizes = {
                "conv1": (channels, channels, *unit),
                "conv2": (channels, channels, *unit),
                "dw_conv": (channels, 1, *(3,) * axes),
                "mlp.fc1": (4 * channels, channels, *unit),
                "mlp.fc2": (channels, 4 * channels, *unit),
            }
            for part, size in sizes.items():
                shapes |= {f"{inner}.{part}.weight": size, f"{inner}.{part}.bias": size[:1]}
        fused = f"enc_fusion_dict.{name}.down_convs.{place}"
        shapes |= {f"{fused}.weight": (d, channels, *across(4 if place == 0 else 2)), f"{fused}.bias": (d,)}
    shapes |= linear(f"{down}.patch_embed.proj", 4 * 6, d) | linear(f"{down}.linear", d, d)
    return shapes | norm(f"enc_fusion_dict.{name}.norm", d) | {f"{down}.pos_embed": (1, tokens, d)}


def cine_encoder(d=24):
    shapes = {"encoder.cls_token": (1, 1, d), **norm("encoder.norm", d)}
    for number in range(2):
        shapes |= block(f"encoder.blocks.{number}", d, attention={"q": 1, "kv": 2})
    return shapes


@pytest.fixture
def autoencoder():
    """As CineMA's pre-trained file: four views with one frame each, a decoder of another width, heads of pixels."""
    shapes = cine_encoder() | view("sax", 1)
    for name in ("lax_2c", "lax_3c", "lax_4c"):
        shapes |= view(name, 1, axes=2, tokens=9)
    for name, patch in {"sax": 64, "lax_2c": 64, "lax_3c": 64, "lax_4c": 64}.items():
        shapes |= {f"dec_embed_dict.{name}.pos_embed": (1, 27, 16), f"dec_embed_dict.{name}.mask_token": (1, 1, 16)}
        shapes |= linear(f"pred_head_dict.{name}", 16, patch)
    shapes |= linear("dec_linear", 24, 16) | norm("decoder.norm", 16)
    return randoms(shapes | block("decoder.blocks.0", 16, attention={"q": 1, "kv": 2}))


@pytest.fixture
def tuned():
    """As CineMA's fine-tuned files for disease: one view, both frames, a head beside that of the class token."""
    heads = linear("pred_head_dict.sax", 24, 5) | linear("pred_head_dict.cls", 24, 5)
    return randoms(cine_encoder() | view("sax", 2) | heads)


@pytest.fixture
def timm():
    """As timm's vision transformers at 28 px: a class token with a place of its own, a head for 7 classes."""
    shapes = {"cls_token": (1, 1, 24), "pos_embed": (1, 50, 24), "patch_embed.proj.weight": (24, 3, 4, 4)}
    shapes |= {"patch_embed.proj.bias": (24,), **norm("norm", 24), **linear("head", 24, 7)}
    for number in range(2):
        shapes |= block(f"blocks.{number}", 24, attention={"qkv": 3})
    return randoms(shapes)


def saved(tensors, path):
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return str(path)


def heads_of(network):
    return {name: value for name, value in network.state_dict().items() if name.startswith("head.")}


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_cinemas_autoencoder_loads_but_for_its_other_views_and_its_decoder(autoencoder, tmp_path, ending, caplog):
    with caplog.at_level(logging.INFO):
        network = cine(base=saved(autoencoder, tmp_path / f"toy.{ending}"), seed=5)
    state, fresh = network.state_dict(), cine(seed=5).state_dict()
    for name, value in state.items():
        if name.startswith(("head.", "standard.")):
            assert torch.equal(value, fresh[name]), name
        elif name.startswith("encoder.stem.") and not name.endswith("blocks.0.patch_embed.conv.weight"):
            assert torch.equal(value, autoencoder[name.replace("encoder.stem.", "enc_down_dict.sax.")]), name
        elif name.startswith("encoder.fusion."):
            assert torch.equal(value, autoencoder[name.replace("encoder.fusion.", "enc_fusion_dict.sax.")]), name
        elif not name.startswith("encoder.stem."):
            assert torch.equal(value, autoencoder[name]), name
    first = autoencoder["enc_down_dict.sax.conv_blocks.0.patch_embed.conv.weight"]
    assert torch.equal(state["encoder.stem.conv_blocks.0.patch_embed.conv.weight"], first.repeat(1, 2, 1, 1, 1))
    for left in ("enc_down_dict.lax_2c", "decoder.blocks", "dec_embed_dict.sax", "pred_head_dict.sax"):
        assert left in caplog.text
    assert "the head starts at seeded values" in caplog.text


def test_at_another_size_the_places_are_the_networks_own(autoencoder, tmp_path):
    network = cine(base=saved(autoencoder, tmp_path / "toy.pth"), image_size=32, slices=2)
    assert torch.equal(network.encoder.stem.pos_embed, sines((4, 4, 2), 24))


def test_a_file_of_cinemas_own_training_holds_more_than_tensors(autoencoder, tmp_path):
    nested, flat = tmp_path / "nested.pt", tmp_path / "flat.pt"
    torch.save({"model": autoencoder, "epoch": 3}, nested)
    torch.save(autoencoder, flat)
    assert cine(base=str(nested)).base_fingerprint == cine(base=str(flat)).base_fingerprint


def test_a_fine_tuned_file_brings_its_head_where_the_classes_are_as_many(tuned, tmp_path):
    path = saved(tuned, tmp_path / "toy.safetensors")
    same, other = cine(base=path, classes=5), cine(base=path, classes=2, seed=5)
    assert torch.equal(same.head.sax.weight, tuned["pred_head_dict.sax.weight"])
    assert torch.equal(same.head.cls.bias, tuned["pred_head_dict.cls.bias"])
    fresh = cine(classes=2, seed=5)
    assert all(torch.equal(value, heads_of(fresh)[name]) for name, value in heads_of(other).items())
    for network in (same, other):
        kernel = network.state_dict()["encoder.stem.conv_blocks.0.patch_embed.conv.weight"]
        assert torch.equal(kernel, tuned["enc_down_dict.sax.conv_blocks.0.patch_embed.conv.weight"])


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_timms_file_loads_at_another_size_and_number_of_classes(timm, tmp_path, ending):
    path = saved(timm, tmp_path / f"toy.{ending}")
    same, other = picture(base=path, image_size=28, classes=7), picture(base=path, image_size=20, classes=2, seed=5)
    for name, value in timm.items():
        ours = name if name.startswith("head.") else f"encoder.{name}"
        assert torch.equal(same.state_dict()[ours], value), name
    assert torch.equal(other.encoder.pos_embed, resized(timm["pos_embed"], 5))
    fresh = picture(image_size=20, classes=2, seed=5)
    assert all(torch.equal(value, heads_of(fresh)[name]) for name, value in heads_of(other).items())


def test_a_file_without_a_head_is_none_the_worse(timm, tmp_path):
    whole = {name: value for name, value in timm.items() if not name.startswith("head.")}
    network = picture(base=saved(whole, tmp_path / "toy.safetensors"), image_size=28)
    assert torch.equal(network.encoder.norm.weight, timm["norm.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.attn.qkv.bias"), r"the file has no encoder\.blocks\.1\.attn\.qkv\.bias"),
        (
            lambda t: t.update({"fc_norm.weight": torch.ones(24)}),
            r"network has no fc_norm\.weight; the file has no \(",
        ),
        (lambda t: t.update({"norm.bias": torch.ones(3)}), r"norm\.bias: found shape \(3,\), expected \(24,\)"),
        (lambda t: t.update({"pos_embed": torch.ones(1, 40, 24)}), r"pos_embed: found shape \(1, 40, 24\)"),
        (lambda t: t.update({"norm.bias": torch.full((24,), torch.nan)}), r"norm\.bias: 24 of 24 values are NaN"),
    ],
)
def test_what_does_not_match_is_listed(timm, tmp_path, change, message):
    change(timm)
    with pytest.raises(CheckpointError, match=message):
        picture(base=saved(timm, tmp_path / "toy.pth"))


def test_a_stranger_is_told_what_it_has_too_much_and_too_little(timm, tuned, tmp_path):
    with pytest.raises(CheckpointError, match=r"(?s)no vision_model\.x.*no encoder\.cls_token, .* and \d+ more"):
        cine(base=saved({"vision_model.x": torch.ones(2)}, tmp_path / "clip.pth"))
    with pytest.raises(CheckpointError, match=r"a classifier fine-tuned from CineMA.*toy.*no cls_token"):
        cine(base=saved(timm, tmp_path / "timm.pth"))
    with pytest.raises(CheckpointError, match=r"a vision transformer of timm's.*the file has no .*encoder\.pos_embed"):
        picture(base=saved(tuned, tmp_path / "tuned.pth"))


@pytest.mark.parametrize("make", [cine, picture])
def test_our_own_file_loads_by_its_own_names(make, tmp_path):
    made = make(seed=9, classes=3)
    path = tmp_path / "ours.safetensors"
    save_file(made.state_dict(), path, metadata={"format": OUR_FORMAT})
    assert make(base=str(path), seed=1, classes=3).base_fingerprint == made.base_fingerprint


@pytest.mark.parametrize("what", [0.0, -1.0, None])
def test_what_features_are_divided_by_is_above_0_and_not_without_their_mean(what, tmp_path):
    state = picture(seed=9).state_dict()
    if what is None:
        del state["standard.mean"]
    else:
        state["standard.deviation"] = torch.ones_like(state["standard.deviation"]).index_fill(0, torch.tensor(3), what)
    save_file(state, tmp_path / "ours.safetensors", metadata={"format": OUR_FORMAT})
    said = (
        r"standard\.mean is missing" if what is None else rf"standard\.deviation: found {what:g}, expected .* above 0"
    )
    with pytest.raises(CheckpointError, match=said):
        picture(base=str(tmp_path / "ours.safetensors"))


def test_a_missing_file_says_where_it_is_published(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth; cinema needs cinema\.safetensors .*mathpluscode/CineMA"):
        CineClassifier(arch="cinema", image_size=32, slices=1, base=str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("network", "arch", "said"),
    [
        (CineClassifier, "cinema", "mathpluscode/CineMA"),
        (PictureClassifier, "vit_b16", "timm's vit_base_patch16_224"),
        (PictureClassifier, "vit_s16", "timm's vit_small_patch16_224"),
    ],
)
def test_embedded_weights_are_refused_for_somebody_elses_network_before_it_is_built(network, arch, said):
    with pytest.raises(ValueError, match=said):
        network.require_base(arch=arch, base="embedded")
    network.require_base(arch=arch, base=__file__)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        network.require_base(arch=arch, base="/there/is/no/file")
    network.require_base(arch=arch, base=None)


@pytest.mark.parametrize(("network", "arch"), [(CineClassifier, "cine_tiny"), (PictureClassifier, "vit_tiny")])
def test_embedded_weights_are_for_ours(network, arch):
    network.require_base(arch=arch, base="embedded")
