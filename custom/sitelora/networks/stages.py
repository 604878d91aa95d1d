"""The stages by which a network gets from an image to its answer, so that what stays frozen need not be computed again.

A network names them in order, in ``stages`` beside its ``parts``: the modules and tensors of every stage, and what it
computes. Then the longest beginning in which nothing trains, nothing is random and no hook changes or listens is a
function of the image alone, whatever the method, the task and the adapters are. Who has kept what it gives hands that
to the network's forward pass, which goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol, cast

from torch import Tensor, nn

Flow = tuple[Tensor, ...]
"""What a stage gives and the next one reads; the first axis of each runs over the slices of all images of a batch."""

_VARYING = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.modules.batchnorm._BatchNorm)
"""Modules that give something else each time, or something that depends on the other images of a batch."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Args:
        name: in words. holds: names of the modules and tensors that it computes with, and no others.
        run: what it makes of what the stage before gave.
    """

    name: str
    holds: tuple[str, ...]
    run: Callable[[Flow], Flow]


@dataclass(frozen=True)
class Kept:
    """What the stages before ``first`` gave for the images of a batch; a network's forward pass goes on from it."""

    first: int
    flow: Flow


class Staged(Protocol):
    """A network that names its stages; ``enter`` returns what the first of them reads of a batch of images."""

    def stages(self) -> tuple[Stage, ...]:
        """Return them in order; the last one's flow is the answer before it takes the shape of the images."""

    def enter(self, image: Tensor) -> Flow:
        """Return what the first stage reads."""


def staged(network: nn.Module) -> Staged | None:
    """Return a network that names its stages as such, or None for one that does not."""
    return cast(Staged, network) if hasattr(network, "stages") and hasattr(network, "enter") else None


def run_stages(stages: Sequence[Stage], flow: Flow) -> Flow:
    """Return what stages in a row make of a flow."""
    for stage in stages:
        flow = stage.run(flow)
    return flow


def frozen_stages(network: nn.Module) -> int:
    """Return how many of a network's first stages are a function of the image alone; 0 where it names none.

    What no stage holds may act anywhere, so it counts for the first one.
    """
    named = staged(network)
    stages = named.stages() if named is not None else ()
    free = len(stages)
    tensors = (name for name, parameter in network.named_parameters() if parameter.requires_grad)
    modules = (name for name, module in network.named_modules() if name and not is_still(module))
    for name in chain(tensors, modules):
        free = min(free, _stage_of(name, stages))
    return free


def modules_before(network: nn.Module, first: int) -> list[nn.Module]:
    """Return the modules of the stages before ``first``, and those that they lie in."""
    stages = cast(Staged, network).stages()
    named = ((name, module) for name, module in network.named_modules() if name)
    return [module for name, module in named if _stage_of(name, stages) < first]


def tensors_before(network: nn.Module, first: int) -> dict[str, Tensor]:
    """Return the parameters and buffers of the stages before ``first``, by name."""
    stages = cast(Staged, network).stages()
    named = chain(network.named_parameters(), network.named_buffers())
    return {name: tensor for name, tensor in named if _stage_of(name, stages) < first}


def is_still(module: nn.Module) -> bool:
    """Say whether a module gives the same for an image each time, and nobody listens to it or changes what it gives."""
    if any(getattr(module, hooks) for hooks in _HOOKS):
        return False
    if isinstance(module, nn.MultiheadAttention):
        return not module.dropout
    return not isinstance(module, _VARYING)


def _stage_of(name: str, stages: Sequence[Stage]) -> int:
    """Return the first stage that holds a module or tensor, or a part of it; 0 for what none holds."""
    for number, stage in enumerate(stages):
        for held in stage.holds:
            if held == name or name.startswith(f"{held}.") or held.startswith(f"{name}."):
                return number
    return 0
