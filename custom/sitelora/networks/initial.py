"""Seeded initial values: each tensor from a generator of (seed, its name), so all sites draw the same."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..seeding import derive_seed

_TABLES = ("pos_embed", "rel_pos_h", "rel_pos_w")
_FREQUENCIES = "positional_encoding_gaussian_matrix"


def draw(network: nn.Module, name: str, *, seed: int) -> Tensor:
    """Return a fresh fp32 value for the tensor ``name`` of ``network``, which may be on the meta device.

    The distribution is the one the tensor's own module uses (`reset_parameters`; SAM's tables start at zero).
    It does not depend on the order of construction or on the other tensors, and the global random state is
    left as it was.

    Raises:
        ValueError: the tensor's module has no known initial distribution.
    """
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    shape = getattr(module, leaf).shape
    if leaf in _TABLES:
        return torch.zeros(shape)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derive_seed(seed, name))
        if leaf == _FREQUENCIES:
            return torch.randn(shape, device="cpu")
        if hasattr(module, "reset_parameters"):
            fresh: Any = copy.deepcopy(module).to_empty(device="cpu")
            fresh.reset_parameters()
            value: Tensor = getattr(fresh, leaf).detach()
            return value
    if type(module).__name__ == "LayerNorm2d":
        return torch.ones(shape) if leaf == "weight" else torch.zeros(shape)
    raise ValueError(f"{name}: no initial distribution is known for a {type(module).__name__}; add it to {__name__}")
