"""The methods on networks that have no decoder: each adapts a classifier, or says in one sentence why it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sitelora.method_registry import find_method, method_names, with_arguments
from sitelora.networks.parts import PartsError, parts_of
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier

NETWORKS: dict[str, Any] = {
    "cine": (CineClassifier, {"arch": "cine_tiny", "image_size": 32, "slices": 2}),
    "picture": (PictureClassifier, {"arch": "vit_tiny", "image_size": 32}),
}
WITHOUT_A_MEANING = {
    "iat": r"no decoder\. IAT shares B in an encoder and A in a decoder; on an encoder alone it would be share_b",
    "flap_sam+mode=dec_ft": r"no decoder\. A mode that trains the mask decoder has no meaning without one",
    "flap_sam+mode=lora_dec_ft": r"no decoder\. A mode that trains the mask decoder",
    "flap_sam+mode=attn_ft_text": r"no decoder\. A mode that trains the mask decoder",
    "ma_sam": r"no decoder\. MA-SAM trains one with its adapters, on segmentation",
}


@pytest.fixture(params=sorted(NETWORKS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    kind, arguments = NETWORKS[request.param]
    with torch.device("meta"):
        made: nn.Module = kind(**arguments)
    return made


@pytest.mark.parametrize("name", sorted({*method_names(), "flap_sam+mode=pdec_ft"} - WITHOUT_A_MEANING.keys()))
def test_it_adapts_a_classifier_and_trains_its_head(name: str, network: nn.Module) -> None:
    function, arguments = with_arguments(name)
    method = find_method(function)(**arguments).on(parts_of(network))
    with torch.device("meta"):
        partition = method.adapt(network, seed=0)
    heads = {each for each in network.state_dict() if each.startswith("head.")}
    assert heads
    assert heads <= set(partition.trained)


@pytest.mark.parametrize("name", sorted(WITHOUT_A_MEANING))
def test_what_needs_a_decoder_says_so_before_anything_is_built(name: str, network: nn.Module) -> None:
    function, arguments = with_arguments(name)
    with pytest.raises(PartsError, match=WITHOUT_A_MEANING[name]):
        find_method(function)(**arguments).on(parts_of(network))
