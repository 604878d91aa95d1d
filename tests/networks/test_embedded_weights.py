import json
import shutil

import pytest
import torch

from sitelora.disk import file_sha256
from sitelora.networks import tensor_file
from sitelora.networks.sam import SamSegmenter
from sitelora.networks.tensor_file import embedded_file


@pytest.mark.parametrize(("image_size", "classes"), [(128, 1), (64, 2), (256, 1)])
def test_embedded_weights_load_at_any_size(image_size, classes):
    network = SamSegmenter(arch="sam_tiny", image_size=image_size, classes=classes, base="embedded").eval()
    with torch.no_grad():
        logits = network(torch.rand(1, 1, image_size, image_size))
    assert logits.shape == (1, classes + 1, image_size, image_size)
    assert torch.isfinite(logits).all()


def test_the_manifest_says_how_they_were_made():
    manifest = json.loads(embedded_file("sam_tiny").with_suffix(".json").read_text())
    assert manifest["sha256"] == file_sha256(embedded_file("sam_tiny"))
    assert manifest["steps"] > 0
    assert manifest["curve"][-1]["principal"] < manifest["curve"][0]["principal"]
    assert "drawings.py" in manifest["data"]


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    for path in (embedded_file("sam_tiny"), embedded_file("sam_tiny").with_suffix(".json")):
        shutil.copy(path, tmp_path / path.name)
    file = tmp_path / "sam_tiny.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    monkeypatch.setattr(tensor_file, "embedded_file", lambda arch: file)
    with pytest.raises(ValueError, match=r"by its manifest: the installation is damaged"):
        SamSegmenter(arch="sam_tiny", image_size=128, base="embedded")
