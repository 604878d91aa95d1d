"""A bundle's network at a size that trains in a second."""

from __future__ import annotations

from typing import Any

from torch import nn

from sitelora.networks.precision import set_precision
from sitelora.settings import read_settings

SMALL: dict[str, Any] = {"image_size": 32, "base": None, "precision": "fp32"}


def small_network(bundle: str) -> nn.Module:
    """Return the network of a bundle on random values, ready to be adapted."""
    network = read_settings(bundle, SMALL).parser().get_parsed_content("network_def")
    assert isinstance(network, nn.Module)
    set_precision(network, "fp32")
    return network.eval()
