"""Bottleneck adapters (Houlsby et al. 2019) in the placement of MSA: after attention and beside the MLP.

``x + up(GELU(down(x)))`` on an attention's output, and ``mlp(x) + scale * up(GELU(down(x)))`` beside an MLP. FedSCA
(arXiv 2503.15390) inserts adapters into every block but does not publish their shape: width / 4 and scale 0.5 are
our choice. ``up`` is zero at first, so that the network starts as the base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sitelora.adapters.base import AdapterModule, attach, modules_of, width_of
from sitelora.seeding import fill_gaussian


class Bottleneck(AdapterModule):
    """``scale * up(GELU(down(x)))`` with ``down [h, d]`` and ``up [d, h]``, added to the host's output.

    Args:
        width: d. hidden: h. scale: factor of the branch.
        reads: "output" (after the host) or "input" (beside the host).
    """

    def __init__(self, *, width: int, hidden: int, scale: float, reads: str, seed: int, name: str) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        self.scale = scale
        self.reads = reads
        fill_gaussian(self.down.weight, std=1 / math.sqrt(width), seed=seed, name=f"{name}.down.weight")
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def after(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the host's output plus the branch; shapes ``[..., d]``."""
        x = output if self.reads == "output" else inputs[0]
        return output + self.scale * self.up(functional.gelu(self.down(x)))


@dataclass(frozen=True, kw_only=True)
class BottleneckAdapters:
    """An adapter after the attention and one beside the MLP of every encoder block.

    Args:
        reduction: width divided by the hidden size.
        mlp_scale: factor of the branch beside the MLP.
        role: name of the adapter among its host's children.
    """

    reduction: int = 4
    mlp_scale: float = 0.5
    role: str = "adapter"

    def insert(self, network: nn.Module, *, seed: int) -> None:
        """Attach the adapters to the attention and the MLP of every block.

        Raises:
            PartsError: the network declares none.
        """
        for part, reads, scale in (("@attention", "output", 1.0), ("@mlp", "input", self.mlp_scale)):
            for place, host in modules_of(network, part):
                width = width_of(host)
                adapter = Bottleneck(
                    width=width,
                    hidden=max(1, width // self.reduction),
                    scale=scale,
                    reads=reads,
                    seed=seed,
                    name=f"{place}.{self.role}",
                )
                attach(host, self.role, adapter)
