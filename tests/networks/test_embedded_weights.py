import json
import shutil
from pathlib import Path

import pytest
import torch

from sitelora.networks import checkpoint
from sitelora.networks.checkpoint import EMBEDDED_FILE, file_sha256
from sitelora.networks.sam import SamSegmenter

WEIGHTS = Path(checkpoint.__file__).parent / "weights"


@pytest.mark.parametrize(("image_size", "classes"), [(128, 1), (64, 2), (256, 1)])
def test_embedded_weights_load_at_any_size(image_size, classes):
    network = SamSegmenter(arch="sam_tiny", image_size=image_size, classes=classes, base="embedded").eval()
    with torch.no_grad():
        logits = network(torch.rand(1, 1, image_size, image_size))
    assert logits.shape == (1, classes + 1, image_size, image_size)
    assert torch.isfinite(logits).all()


def test_the_manifest_says_how_they_were_made():
    manifest = json.loads((WEIGHTS / EMBEDDED_FILE).with_suffix(".json").read_text())
    assert manifest["sha256"] == file_sha256(WEIGHTS / EMBEDDED_FILE)
    assert manifest["steps"] > 0
    assert manifest["curve"][-1]["principal"] < manifest["curve"][0]["principal"]
    assert "drawings.py" in manifest["data"]


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    for name in (EMBEDDED_FILE, "sam_tiny.json"):
        shutil.copy(WEIGHTS / name, tmp_path / name)
    damaged = bytearray((tmp_path / EMBEDDED_FILE).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / EMBEDDED_FILE).write_bytes(damaged)
    monkeypatch.setattr(checkpoint, "_embedded", lambda arch: tmp_path / EMBEDDED_FILE)
    with pytest.raises(ValueError, match=r"by its manifest: the installation is damaged"):
        SamSegmenter(arch="sam_tiny", image_size=128, base="embedded")
