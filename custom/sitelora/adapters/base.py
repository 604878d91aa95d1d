"""An adapter is a small module inside the base module that it changes, and a hook that adds its output.

The base's tensors keep their names, so a base checkpoint loads before and after, and ``...qkv.lora.q.A`` says where
an adapter sits. A method holds frozen specifications; ``insert`` turns them into modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sitelora.networks.parts import PartsError, parts_of
from sitelora.sharing.patterns import clean_name, matches_any


class AdapterModule(nn.Module):
    """Base of every inserted module; changes the output of the module that it sits in."""

    def after(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the host's output with the adapter's contribution."""
        raise TypeError(f"{type(self).__name__} does not say what it adds to its host's output")

    def merge(self, host: nn.Module) -> None:
        """Add the adapter to the host's own weights, for serving without overhead."""
        raise TypeError(f"{type(self).__name__} is not linear in its input and cannot be merged into the base")


class LinearAdapter(AdapterModule):
    """An adapter of a linear projection that is linear itself, so that it can be merged into the projection."""

    _merged = False

    def weight_changes(self, host: nn.Module) -> Iterable[tuple[slice, Tensor]]:
        """Yield rows of the host's weight and what is added to them, ``[rows, d_in]`` fp32."""
        raise TypeError(f"{type(self).__name__} does not say what it adds to its host's weight")

    def merge(self, host: nn.Module) -> None:
        """Add the changes to the host's weight, once."""
        if self._merged:
            raise RuntimeError("this adapter is merged already")
        weight = host.get_parameter("weight")
        with torch.no_grad():
            for rows, change in list(self.weight_changes(host)):
                weight[rows] += change.to(weight.device, weight.dtype)
        self._merged = True


class HeldTensors(AdapterModule):
    """Tensors that several adapters use; changes nothing by itself, and is merged with those that use it."""

    def merge(self, host: nn.Module) -> None:
        """Do nothing."""


class AdapterSpec(Protocol):
    """What is inserted and where; a frozen value that a method holds."""

    def insert(self, network: nn.Module, *, seed: int) -> None:
        """Insert the adapter's modules, their tensors drawn by seed and tensor name."""


def put_into(host: nn.Module, name: str, adapter: AdapterModule) -> None:
    """Make ``adapter`` a child of ``host`` called ``name``; what it changes is for its own hooks.

    Raises:
        ValueError: the host has something of that name already.
    """
    if hasattr(host, name):
        raise ValueError(f"{type(host).__name__} already has {name!r}; give the adapter another role")
    host.add_module(name, adapter.train(host.training))


def attach(host: nn.Module, name: str, adapter: AdapterModule) -> None:
    """Put ``adapter`` into ``host`` under ``name`` and let it change the host's output.

    Raises:
        ValueError: the host has something of that name already.
    """
    put_into(host, name, adapter)
    host.register_forward_hook(adapter.after)


def modules_of(network: nn.Module, pattern: str) -> list[tuple[str, nn.Module]]:
    """Return name and module of everything that a pattern itself names, for example ``@blocks``, and nothing below it.

    Raises:
        PartsError: the network has no such part, or no module of it.
    """
    wanted = [name.removesuffix(".**") for name in parts_of(network).expand(pattern)]
    found = [(name, module) for name, module in network.named_modules() if name and matches_any(wanted, name)]
    if not found:
        raise PartsError(f"{pattern!r}: this network has no such module")
    return found


def width_of(host: nn.Module) -> int:
    """Return the width d of what a module reads ``[..., d]``: that of its first linear projection."""
    return next(module.in_features for module in host.modules() if isinstance(module, nn.Linear))


def adapters_of(network: nn.Module) -> Iterator[tuple[str, nn.Module, AdapterModule]]:
    """Yield (name, host, adapter) of every inserted adapter, in the network's order."""
    for host_name, host in network.named_modules():
        for role, child in host.named_children():
            if isinstance(child, AdapterModule):
                yield (f"{host_name}.{role}" if host_name else role), host, child


def adapter_tensor_names(network: nn.Module) -> set[str]:
    """Return the names of all tensors that adapters added."""
    prefixes = tuple(clean_name(name) + "." for name, _, _ in adapters_of(network))
    return {clean_name(n) for n in network.state_dict() if prefixes and clean_name(n).startswith(prefixes)}


def merge_adapters(network: nn.Module) -> None:
    """Merge every adapter into its host; raises before touching any where one cannot be merged."""
    found = list(adapters_of(network))
    for name, _, adapter in found:
        if type(adapter).merge is AdapterModule.merge:
            raise TypeError(f"{name}: {type(adapter).__name__} cannot be merged into the base; serve it unmerged")
    for _, host, adapter in found:
        adapter.merge(host)


def remove_adapters(network: nn.Module) -> None:
    """Take all adapters and their hooks out; what is merged stays merged."""
    adapters = [adapter for _, _, adapter in adapters_of(network)]
    for module in list(network.modules()):
        for role, child in list(module.named_children()):
            if isinstance(child, AdapterModule):
                delattr(module, role)
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if any(getattr(hook, "__self__", None) is adapter for adapter in adapters):
                    del hooks[key]


def insert_adapters(network: nn.Module, specs: Sequence[AdapterSpec], *, seed: int) -> None:
    """Insert every specification in order."""
    for spec in specs:
        spec.insert(network, seed=seed)
