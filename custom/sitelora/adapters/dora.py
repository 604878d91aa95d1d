"""DoRA (Liu et al. 2024, arXiv 2402.09353) on q and v: a LoRA pair gives the direction, ``m`` the columns' length.

``W' = m * V / |V|`` with ``V = W0 + s B A``, ``|V|`` the Euclidean norm of every column ``[d_in]`` and ``m = |W0|`` at
first, so the network starts as the base. Gradients do not pass through ``|V|`` (the paper, section 4.3). FLAP-SAM's
table counts no ``m``, and its code never trains it; here a share rule says what becomes of it.

Others differ, so their numbers are not these: peft takes the norm of every row ``[d_out]`` of the weight, detached
too; FLAP-SAM's code lets gradients pass through ``|V|``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sitelora.adapters.lora import FusedPairs, LoRA, LoRAModule, SinglePair
from sitelora.adapters.low_rank import LowRankPair


class DoRAPair(LowRankPair):
    """A pair with the lengths of its rows' columns.

    Attributes:
        m: ``[d_in]``.
    """

    def __init__(self, *, weight: Tensor, **sizes: Any) -> None:
        LowRankPair.__init__(self, **sizes)
        self.m = nn.Parameter(column_norms(weight))

    def column_factors(self, weight: Tensor) -> Tensor:
        """Return ``m / |W0 + s B A|``, ``[d_in]`` fp32, for the rows ``W0 [d_out, d_in]``; V is never formed."""
        with torch.no_grad():
            factor, base = self.scale * self.strength, weight.float()
            a, b = self.A.float(), self.B.float()
            squared = base.square().sum(0) + 2 * factor * (a * (b.T @ base)).sum(0)
            squared = squared + factor**2 * (a * (b.T @ b @ a)).sum(0)
            norms = squared.clamp_min(torch.finfo(torch.float32).tiny).sqrt()
        return self.m / norms


class DoRAModule(LoRAModule):
    """DoRA pairs in one projection; what they change depends on the base's weight too, so none is joined."""

    joins: ClassVar[bool] = False

    def change(self, host: nn.Module, pair: LowRankPair, x: Tensor) -> Tensor:
        """Return ``(W' - W0) x``: ``W0 (c - 1) x + s B A c x`` with the columns' factors c."""
        weight, factors = _rows(host, pair), _factors(host, pair)
        out: Tensor = pair(x * factors)
        return out + functional.linear((x * (factors - 1)).to(weight.dtype), weight)

    def weight_change(self, host: nn.Module, pair: LowRankPair) -> Tensor:
        """Return ``W' - W0``."""
        weight, factors = _rows(host, pair).detach().float(), _factors(host, pair).detach()
        return (weight + pair.product()) * factors - weight


class FusedDoRA(DoRAModule, FusedPairs):
    """One pair for each adapted third of a fused qkv projection: ``<role>.q.A`` and so on."""


class SingleDoRA(DoRAModule, SinglePair, DoRAPair):
    """One pair over all outputs of a separate projection."""

    def __init__(self, **sizes: Any) -> None:
        DoRAPair.__init__(self, **sizes)


@dataclass(frozen=True, kw_only=True)
class DoRA(LoRA):
    """DoRA where ``LoRA`` would be; the arguments are LoRA's."""

    pair: ClassVar[type[LowRankPair]] = DoRAPair
    fused: ClassVar[type[FusedPairs]] = FusedDoRA
    single: ClassVar[type[SinglePair]] = SingleDoRA

    def sizes(self, name: str, linear: nn.Linear, rows: slice, seed: int) -> dict[str, Any]:
        """Return the arguments of the pair called ``name``, the rows' weight among them."""
        return {**super().sizes(name, linear, rows, seed), "weight": linear.weight.detach()[rows]}


def column_norms(weight: Tensor) -> Tensor:
    """Return the Euclidean norm of every column of ``weight [d_out, d_in]``, fp32."""
    return weight.float().square().sum(0).sqrt()


def _rows(host: nn.Module, pair: LowRankPair) -> Tensor:
    return host.get_parameter("weight")[pair.rows]


def _factors(host: nn.Module, pair: LowRankPair) -> Tensor:
    if not isinstance(pair, DoRAPair) or pair.delta is not None:
        raise TypeError("DoRA holds DoRA pairs without a base delta: a column's length is not linear in the product")
    return pair.column_factors(_rows(host, pair))
