"""Seeded initial values: each tensor from a generator of (seed, its name), so all sites draw the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..seeding import derive_seed
from .tensor_file import fingerprint

_TABLES = ("pos_embed", "rel_pos_h", "rel_pos_w")
_FREQUENCIES = "positional_encoding_gaussian_matrix"


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build modules without values, on the meta device.

    Their constructors' initial values are left out: torch draws values that are not there by way of its compiler, and
    imports dynamo and sympy for it, a second before the first step of a process.
    """
    with torch.device("meta"), _NoInitialValues():
        yield


class _NoInitialValues(TorchFunctionMode):
    """Leaves a tensor without values as it is where ``torch.nn.init`` would fill it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            tensor: Tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


def fill_network(network: nn.Module, provided: Mapping[str, Tensor], *, seed: int) -> str:
    """Give every tensor of a network on the meta device its value: the provided one, else a fresh one.

    Of a per-class table of another number of classes the first rows are provided, as many as both have.

    Returns:
        The fingerprint of the values.
    """
    state: dict[str, Tensor] = {}
    for name, want in network.state_dict().items():
        value = provided.get(name)
        if value is None or value.shape != want.shape:
            fresh = draw(network, name, seed=seed)
            if value is not None:
                rows = min(len(value), len(fresh))
                fresh[:rows] = value[:rows]
            value = fresh
        state[name] = value
    network.load_state_dict(state, strict=True, assign=True)
    return fingerprint(state)


def draw(network: nn.Module, name: str, *, seed: int) -> Tensor:
    """Return a fresh fp32 value for the tensor ``name`` of ``network``, which may be on the meta device.

    The distribution is the one the tensor's own module uses (`initial_value(leaf)` where it has one, else
    `reset_parameters`; SAM's tables start at zero).
    It does not depend on the order of construction or on the other tensors, and the global random state is
    left as it was.

    Raises:
        ValueError: the tensor's module has no known initial distribution.
    """
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    shape = getattr(module, leaf).shape
    if leaf in _TABLES and not hasattr(module, "initial_value"):
        return torch.zeros(shape)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derive_seed(seed, name))
        if hasattr(module, "initial_value"):
            own: Tensor = module.initial_value(leaf)  # type: ignore[operator]
            return own.detach()
        if leaf == _FREQUENCIES:
            return torch.randn(shape, device="cpu")
        if hasattr(module, "reset_parameters"):
            fresh: Any = _emptied(module)
            fresh.reset_parameters()
            value: Tensor = getattr(fresh, leaf).detach()
            return value
    if type(module).__name__ == "LayerNorm2d":
        return torch.ones(shape) if leaf == "weight" else torch.zeros(shape)
    raise ValueError(f"{name}: no initial distribution is known for a {type(module).__name__}; add it to {__name__}")


def _emptied(module: nn.Module) -> nn.Module:
    """Return a copy of a module with memory for its values; ``to_empty`` would import sympy (see `shapes_only`)."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            trained = tensor.requires_grad
            setattr(part, name, nn.Parameter(empty, trained) if isinstance(tensor, nn.Parameter) else empty)
    return copied
