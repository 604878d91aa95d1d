"""What a network makes of an image before anything in it trains: a function of the image alone, which can be kept.

A network computes in stages. It says by name what each of the first ones computes with (``stages``), what images are
after so many of them (``until``), and what its output is from there (``onwards``, which its ``forward`` calls where it
is given `Kept` in place of images).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kept:
    """A batch of images after the first stages of a network.

    Attributes:
        tensors: as ``until`` gives them, each batch first. stages: how many are behind them.
    """

    tensors: tuple[Tensor, ...]
    stages: int

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Kept:
        """Return it on a device."""
        return Kept(tuple(tensor.to(device, non_blocking=non_blocking) for tensor in self.tensors), self.stages)


class Staged(Protocol):
    """A network that can be entered between its stages."""

    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Return the modules and parameters of each stage by name, in the order of computing; the rest comes after."""

    def until(self, image: Tensor, stages: int) -> tuple[Tensor, ...]:
        """Return what a batch of images is after so many stages, at least one."""

    def onwards(self, kept: Kept) -> Tensor:
        """Return the network's output of a batch that has some stages behind it."""
