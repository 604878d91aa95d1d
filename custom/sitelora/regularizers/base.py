"""What a regularizer sees of a round at a site, and what it must offer."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from sitelora.regularizers.seen import SeenInputs


@dataclass(kw_only=True)
class SiteView:
    """One pass of one round at one site, as regularizers and local programs see it; all on the network's device.

    Attributes:
        round_number: the round, from 0.
        site: name of the site.
        parameters: the tensors in training, fp32, by name; their values change under the trainer.
        shared: names of the shared tensors among all trained ones.
        local: names of the local tensors among all trained ones.
        received: values of the shared tensors as the site received them.
        companions: the method's further tensors as received with the message.
        memory: the method's own tensors at this site; survives from round to round and never leaves.
        inputs: what projections read in a step's forward pass, of those that a regularizer asks for.
        mean_gradient: mean of the task's gradient over the steps of the pass, fp32, by name of a tensor that had one:
            without penalties and clipping. There after the pass, for a local program that wants it.
    """

    round_number: int
    parameters: Mapping[str, nn.Parameter]
    shared: frozenset[str]
    local: frozenset[str]
    received: Mapping[str, Tensor]
    companions: Mapping[str, Tensor] = field(default_factory=dict)
    memory: MutableMapping[str, Tensor] = field(default_factory=dict)
    site: str = ""
    inputs: SeenInputs = field(default_factory=lambda: SeenInputs(nn.Module()))
    mean_gradient: Mapping[str, Tensor] = field(default_factory=dict)


class Penalty(Protocol):
    """A regularizer in one pass: its gradient is added to the task's at every step, outside autocast."""

    def __call__(self) -> Tensor:
        """Return the fp32 scalar that is added to the loss of this step."""

    def after_step(self) -> None:
        """Take note of an optimiser step that has just been made."""


class Regularizer(Protocol):
    """A frozen value that a method holds; ``start`` gives the penalty for one pass."""

    @property
    def largest_share(self) -> float | None:
        """Largest norm of its gradient at a step, in units of the task's over the same tensors; None for no bound."""

    def start(self, view: SiteView) -> Penalty:
        """Return the penalty for the pass that begins with ``view``."""
