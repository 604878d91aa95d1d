"""Proximal term ``weight / 2 * ||w - w_received||^2`` (FedProx, Li et al. 2020; Ditto, Li et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sitelora.regularizers.base import SiteView


@dataclass(frozen=True, kw_only=True)
class Proximal:
    """Pull the shared tensors toward the values that the site received.

    Args:
        weight: mu of FedProx, lambda of Ditto.
    """

    weight: float

    largest_share: ClassVar[None] = None

    def start(self, view: SiteView) -> _ProximalPenalty:
        """Return the penalty for one pass."""
        return _ProximalPenalty(self.weight, view)


class _ProximalPenalty:
    def __init__(self, weight: float, view: SiteView) -> None:
        self._weight = weight
        names = sorted(view.shared & set(view.parameters))
        self._now = [view.parameters[name] for name in names]
        self._then = torch.cat([view.received[name].detach().flatten() for name in names]) if names else None

    def __call__(self) -> Tensor:
        """Return the fp32 scalar penalty; zero where nothing is shared."""
        if self._then is None:
            return torch.zeros(())
        now = torch.cat([parameter.flatten() for parameter in self._now])
        return 0.5 * self._weight * (now - self._then).square().sum()

    def after_step(self) -> None:
        """Nothing to note."""
