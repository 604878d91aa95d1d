"""The weights of cine_tiny and vit_tiny that come with the package."""

import json

import pytest
import torch

from sitelora.disk import file_sha256
from sitelora.networks.tensor_file import embedded_file
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier


def cine(**changes):
    return CineClassifier(**{"arch": "cine_tiny", "image_size": 96, "slices": 8, "base": "embedded"} | changes).eval()


def picture(**changes):
    return PictureClassifier(**{"arch": "vit_tiny", "image_size": 128, "base": "embedded"} | changes).eval()


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (lambda: cine(), (2, 96, 96, 8)),
        (lambda: cine(image_size=64, slices=5, classes=3), (2, 64, 64, 5)),
        (lambda: picture(), (1, 128, 128)),
        (lambda: picture(image_size=96, classes=5), (3, 96, 96)),
    ],
)
def test_they_load_at_any_size_and_tell_images_apart(network, shape):
    network = network()
    with torch.no_grad():
        features = network.features(torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)))
        logits = network.head(features)
    assert logits.shape == (2, network.classes)
    assert torch.isfinite(logits).all()
    assert (features[0] - features[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("make", "arch"), [(cine, "cine_tiny"), (picture, "vit_tiny")])
def test_the_manifest_says_how_they_were_made(make, arch):
    file = embedded_file(arch)
    manifest = json.loads(file.with_suffix(".json").read_text())
    assert manifest["sha256"] == file_sha256(file)
    assert file.stat().st_size < 6_000_000
    assert manifest["curve"][-1]["loss"] < 0.85 * manifest["curve"][0]["loss"]
    assert manifest["steps"] == manifest["settings"]["steps"]
    assert manifest["settings"]["arch"] == arch
    assert "no photograph, scan or class" in manifest["data"]


def test_a_linear_probe_reads_more_off_them_than_off_random_values():
    probe = json.loads(embedded_file("cine_tiny").with_suffix(".json").read_text())["probe"]
    assert probe["pre_trained"]["all"] > probe["random_values"]["all"] + 0.05
    assert probe["pre_trained"].keys() == probe["random_values"].keys() == {"all", "vendor-a", "vendor-b", "vendor-c"}


@pytest.mark.parametrize("make", [cine, picture])
def test_the_head_alone_follows_the_seed(make):
    first, other = make(seed=1).state_dict(), make(seed=2).state_dict()
    different = {name for name, value in first.items() if not torch.equal(value, other[name])}
    assert different
    assert all(name.startswith("head.") for name in different)
