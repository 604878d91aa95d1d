"""A mixture of LoRA experts on q and v: ``h = W0 x + s sum_e g_e B_e A_e x``, the gates g shared by q and v.

As in FLAP-SAM's code (arXiv 2407.21739): one gate an expert in every attention, ``g = softmax(sigmoid(z))``, z drawn
from a standard normal. Every B is zero at first, so the network starts as the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sitelora.adapters.base import HeldTensors, attach, put_into
from sitelora.adapters.lora import LoRA, LoRAModule
from sitelora.adapters.low_rank import LowRankPair
from sitelora.seeding import fill_gaussian


class Gates(HeldTensors):
    """How much every expert of one attention weighs.

    Attributes:
        z: ``[experts]``.
    """

    def __init__(self, experts: int, *, seed: int, name: str) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.empty(experts))
        fill_gaussian(self.z, std=1.0, seed=seed, name=f"{name}.z")

    def weights(self) -> Tensor:
        """Return the gates g, positive, sum 1, ``[experts]``."""
        return self.z.sigmoid().softmax(0)


class Expert(LowRankPair):
    """The pair of one expert.

    Attributes:
        expert: its number.
    """

    def __init__(self, *, expert: int, **sizes: Any) -> None:
        LowRankPair.__init__(self, **sizes)
        self.expert = expert


class Experts(LoRAModule):
    """The experts' pairs in one projection: ``<role>.q.0.A`` in a fused one, ``<role>.0.A`` in one of its own.

    Args:
        pairs: under the names that they get. gates: of the attention, which owns them.
    """

    joins: ClassVar[bool] = False

    def __init__(self, pairs: Mapping[str, nn.Module], gates: Gates) -> None:
        super().__init__()
        for name, pair in pairs.items():
            self.add_module(name, pair)
        self._gates = (gates,)  # in a tuple, so that they are no part of this module

    def gate_of(self, pair: LowRankPair) -> Tensor:
        """Return the gate of the expert whose pair this is."""
        if not isinstance(pair, Expert):
            raise TypeError(f"a mixture holds experts, not a {type(pair).__name__}")
        return self._gates[0].weights()[pair.expert]

    def change(self, host: nn.Module, pair: LowRankPair, x: Tensor) -> Tensor:
        """Return ``g_e s B_e A_e x``."""
        out: Tensor = pair(x)
        return out * self.gate_of(pair)

    def weight_change(self, host: nn.Module, pair: LowRankPair) -> Tensor:
        """Return ``g_e s B_e A_e``."""
        return pair.product() * self.gate_of(pair).detach()


@dataclass(frozen=True, kw_only=True)
class Mixture(LoRA):
    """A mixture of experts where ``LoRA`` would be one pair; its gates sit in the attention, ``<role>_gates``.

    Args:
        experts: how many; LoRA's arguments hold for each.
    """

    experts: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts < 2:
            raise ValueError(f"experts is {self.experts}; a mixture needs at least 2")

    def into_fused(self, owner: nn.Module, name: str, linear: nn.Linear, rows: Mapping[str, slice], seed: int) -> None:
        """Attach experts for every chosen part to a fused projection of ``owner``, which gets their gates."""
        pairs = {
            what: nn.ModuleList(self._experts(f"{name}.{self.role}.{what}", linear, its_rows, seed))
            for what, its_rows in rows.items()
        }
        attach(linear, self.role, Experts(pairs, self._gates(owner, name, seed)))

    def into_single(self, owner: nn.Module, name: str, linear: nn.Linear, seed: int) -> None:
        """Attach experts to a projection of its own ``[d_out, d_in]`` of ``owner``."""
        experts = self._experts(f"{name}.{self.role}", linear, slice(0, linear.out_features), seed)
        pairs = {str(expert.expert): expert for expert in experts}
        attach(linear, self.role, Experts(pairs, self._gates(owner, name, seed)))

    def _experts(self, name: str, linear: nn.Linear, rows: slice, seed: int) -> list[Expert]:
        return [
            Expert(expert=number, **self.sizes(f"{name}.{number}", linear, rows, seed))
            for number in range(self.experts)
        ]

    def _gates(self, owner: nn.Module, name: str, seed: int) -> Gates:
        role = f"{self.role}_gates"
        found = getattr(owner, role, None)
        if isinstance(found, Gates):
            return found
        gates = Gates(self.experts, seed=seed, name=f"{name.rpartition('.')[0]}.{role}")
        put_into(owner, role, gates)
        return gates
