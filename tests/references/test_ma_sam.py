"""MA-SAM: the count of its paper, training on one site, and a refusal of any federation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.federation.in_process import run_in_process
from sitelora.method_registry import find_method
from sitelora.networks.sam import SamSegmenter
from sitelora.references.ma_sam import ma_sam

FAST = {"image_size": 32, "base": None, "crops_per_volume": 1, "slices": 3, "epochs": 1, "precision": "fp32"}


def test_28_667_million_values_are_trained_on_vit_b() -> None:
    with torch.device("meta"):
        network = SamSegmenter(arch="vit_b", image_size=224)
        ma_sam().adapt(network, seed=0)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    adapters = sum(p.numel() for n, p in network.named_parameters() if ".fact" in n or ".slices" in n)
    assert trained == 28_666_678
    assert trained - adapters == 3_768_042 + 6_220  # decoder and prompt encoder
    assert sum(p.numel() for p in network.parameters()) == 90_398_774 + adapters


@pytest.mark.parametrize("sites", [("site-1",), ("site-1", "site-2")])
def test_one_site_trains_it_and_several_are_refused_with_the_reason(tmp_path: Path, sites: tuple[str, ...]) -> None:
    make_phantom(tmp_path / "data", size=TINY, sites=sites)
    assert find_method("ma_sam") is ma_sam
    overrides = {**FAST, "method": "ma_sam"}
    arguments = {
        "bundle": "iat_segmentation",
        "dataset": "prostate",
        "sites": sites,
        "rounds": 1,
        "overrides": overrides,
        "data": tmp_path / "data",
        "home_folder": tmp_path / "home",
    }
    if len(sites) == 1:
        result = run_in_process(**arguments)
        assert result.completed
        assert result.evaluation["site-1"]["personal"].score >= 0
    else:
        with pytest.raises(ValueError, match="ma_sam cannot be trained by 2 sites: MA-SAM is a centralised reference"):
            run_in_process(**arguments)
        assert not (tmp_path / "home").exists()
