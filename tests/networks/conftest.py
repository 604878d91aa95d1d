import dataclasses

import pytest

from sitelora.networks import architecture as module

TOY = module.Architecture(
    width=24, depth=2, heads=2, global_blocks=(1,), patch=16, window=3, embedding=32, decoder_heads=2,
    decoder_hidden=16, meta_file="sam_toy_012345.pth",
)  # fmt: skip


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Small architectures beside the published ones: `toy` (patch 16, as Meta's) and `toy4` (patch 4)."""
    toy4 = dataclasses.replace(TOY, patch=4)
    monkeypatch.setitem(module.ARCHITECTURES, "toy", TOY)
    monkeypatch.setitem(module.ARCHITECTURES, "toy4", toy4)
    return TOY
