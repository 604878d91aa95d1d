"""FacT in its tensor-train form (Jie and Deng 2023), as MA-SAM (Chen et al. 2024, arXiv:2309.08842) puts it on q and v.

``h = W0 x + s V S U x``: U ``[r, d]`` and V ``[d, r]`` are the same in all blocks of the encoder, every projection has
a core S ``[r, r]`` of its own. V is zero at first, so the network starts as the base; U and S are Gaussian with a
standard deviation of 1 / sqrt(columns), our choice. In training a tenth of the rank is dropped out after S, as in
MA-SAM's code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sitelora.adapters.base import HeldTensors, LinearAdapter, attach, modules_of, put_into
from sitelora.adapters.lora import projections_of
from sitelora.networks.parts import PartsError, parts_of
from sitelora.seeding import fill_gaussian


class Shared(HeldTensors):
    """The factors that all blocks share.

    Attributes:
        U: ``[r, d]``. V: ``[d, r]``.
    """

    def __init__(self, *, rank: int, width: int, seed: int, name: str) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.empty(rank, width))
        self.V = nn.Parameter(torch.zeros(width, rank))
        fill_gaussian(self.U, std=1 / math.sqrt(width), seed=seed, name=f"{name}.U")


class Cores(LinearAdapter):
    """The cores of one fused qkv projection, ``<role>.q`` and ``<role>.v``, each ``[r, r]``."""

    def __init__(
        self, shared: Shared, *, rows: Mapping[str, slice], scale: float, dropout: float, seed: int, name: str
    ) -> None:
        super().__init__()
        rank = len(shared.U)
        for part in rows:
            core = nn.Parameter(torch.empty(rank, rank))
            fill_gaussian(core, std=1 / math.sqrt(rank), seed=seed, name=f"{name}.{part}")
            self.register_parameter(part, core)
        self.rows, self.scale, self.dropout = dict(rows), scale, dropout
        self._shared = (shared,)  # in a tuple: the encoder owns them

    def after(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add ``s V S U x`` to every adapted part of the output ``[..., d_out]``."""
        if self._merged:
            return output
        shared = self._shared[0]
        inner = functional.linear(inputs[0], shared.U)
        for part, core in self.named_parameters(recurse=False):
            turned = functional.dropout(functional.linear(inner, core), self.dropout, self.training)
            output[..., self.rows[part]] += self.scale * functional.linear(turned, shared.V)
        return output

    def weight_changes(self, host: nn.Module) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows of every adapted part, and ``s V S U``."""
        shared = self._shared[0]
        for part, core in self.named_parameters(recurse=False):
            yield self.rows[part], self.scale * shared.V @ core @ shared.U


@dataclass(frozen=True, kw_only=True)
class FacT:
    """FacT-TT on the fused projections of every encoder block.

    Args:
        rank: r. scale: s. on: which projections, letters of "qkv". dropout: share of the rank dropped out in training.
        role: name of the adapter among its host's children.
    """

    rank: int = 32
    scale: float = 1.0
    on: str = "qv"
    dropout: float = 0.1
    role: str = "fact"

    def insert(self, network: nn.Module, *, seed: int) -> None:
        """Attach the shared factors to the encoder and cores to its fused projections.

        Raises:
            PartsError: the network declares no fused projection in an encoder.
        """
        parts = parts_of(network)
        (place, encoder), *_ = modules_of(network, "@encoder")
        hosts = [
            (name, linear, projection)
            for name, linear, projection in projections_of(network, parts)
            if name.startswith(f"{place}.") and set(self.on) <= set(projection.holds)
        ]
        if not hosts:
            raise PartsError(f"FacT goes on projections that hold all of {self.on!r}; the network has none in @encoder")
        width = hosts[0][1].in_features
        shared = Shared(rank=self.rank, width=width, seed=seed, name=f"{place}.{self.role}")
        put_into(encoder, self.role, shared)
        for name, linear, projection in hosts:
            rows = {what: projection.rows(what, linear.out_features) for what in sorted(self.on)}
            of_one = f"{name}.{self.role}"
            cores = Cores(shared, rows=rows, scale=self.scale, dropout=self.dropout, seed=seed, name=of_one)
            attach(linear, self.role, cores)
