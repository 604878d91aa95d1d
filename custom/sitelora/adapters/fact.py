"""FacT in its tensor-train form (Jie and Deng 2023), as MA-SAM (Chen et al. 2024, arXiv:2309.08842) puts it on q and v.

``h = W0 x + s V S U x``: U ``[r, d]`` and V ``[d, r]`` are the same in all blocks of the encoder, every projection has
a core S ``[r, r]`` of its own. V is zero at first, so the network starts as the base; U and S are Gaussian with a
standard deviation of 1 / sqrt(columns), our choice. In training a tenth of the rank is dropped out after S, as in
MA-SAM's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sitelora.adapters.base import AdapterModule, attach
from sitelora.adapters.lora import FUSED
from sitelora.seeding import gaussian


class Shared(AdapterModule):
    """The factors that all blocks share; changes nothing by itself.

    Attributes:
        U: ``[r, d]``. V: ``[d, r]``.
    """

    def __init__(self, *, rank: int, width: int, seed: int, name: str) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.empty(rank, width))
        self.V = nn.Parameter(torch.zeros(width, rank))
        _draw(self.U, seed, f"{name}.U")

    def after(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the output as it is."""
        return output

    def merge(self, host: nn.Module) -> None:
        """Do nothing: the cores are merged with their factors."""

    def unmerge(self, host: nn.Module) -> None:
        """Do nothing."""


class Cores(AdapterModule):
    """The cores of one fused qkv projection, ``<role>.q`` and ``<role>.v``, each ``[r, r]``."""

    def __init__(self, shared: Shared, *, parts: str, scale: float, dropout: float, seed: int, name: str) -> None:
        super().__init__()
        rank = len(shared.U)
        for part in sorted(parts):
            core = nn.Parameter(torch.empty(rank, rank))
            _draw(core, seed, f"{name}.{part}")
            self.register_parameter(part, core)
        self.scale, self.dropout = scale, dropout
        self._shared = (shared,)  # in a tuple: the encoder owns them
        self._kept: Tensor | None = None

    def after(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add ``s V S U x`` to every adapted third of the output ``[..., 3 d]``."""
        if self._kept is not None:
            return output
        shared = self._shared[0]
        inner = functional.linear(inputs[0], shared.U)
        third = output.shape[-1] // 3
        for part, core in self.named_parameters(recurse=False):
            turned = functional.dropout(functional.linear(inner, core), self.dropout, self.training)
            rows = slice(FUSED[part] * third, (FUSED[part] + 1) * third)
            output[..., rows] += self.scale * functional.linear(turned, shared.V)
        return output

    def merge(self, host: nn.Module) -> None:
        """Add ``s V S U`` to the host's weight; keeps the weight as it was."""
        if self._kept is not None:
            raise RuntimeError("this adapter is merged already")
        weight, shared = host.get_parameter("weight"), self._shared[0]
        self._kept = weight.detach().clone()
        third = len(weight) // 3
        with torch.no_grad():
            for part, core in self.named_parameters(recurse=False):
                rows = slice(FUSED[part] * third, (FUSED[part] + 1) * third)
                weight[rows] += (self.scale * shared.V @ core @ shared.U).to(weight.device, weight.dtype)

    def unmerge(self, host: nn.Module) -> None:
        """Restore the host's weight bit for bit."""
        if self._kept is None:
            raise RuntimeError("this adapter is not merged")
        with torch.no_grad():
            host.get_parameter("weight").copy_(self._kept)
        self._kept = None


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
        """Attach the shared factors to ``image_encoder`` and cores to every block.

        Raises:
            ValueError: the network has no ``image_encoder.blocks``.
        """
        encoder = getattr(network, "image_encoder", None)
        blocks = getattr(encoder, "blocks", None)
        if encoder is None or blocks is None:
            raise ValueError("FacT goes into image_encoder.blocks, which this network lacks")
        name = f"image_encoder.{self.role}"
        shared = Shared(rank=self.rank, width=blocks[0].attn.qkv.in_features, seed=seed, name=name)
        attach(encoder, self.role, shared)
        for index, block in enumerate(blocks):
            place = f"image_encoder.blocks.{index}.attn.qkv.{self.role}"
            cores = Cores(shared, parts=self.on, scale=self.scale, dropout=self.dropout, seed=seed, name=place)
            attach(block.attn.qkv, self.role, cores)


def _draw(factor: nn.Parameter, seed: int, name: str) -> None:
    if factor.device.type != "meta":
        shape = tuple(factor.shape)
        factor.data.copy_(gaussian(shape, std=1 / math.sqrt(shape[1]), seed=seed, name=name))
