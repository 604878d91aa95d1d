"""Weighted mean of the sites' values (FedAvg, McMahan et al. 2017), in float64, sites sorted by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sitelora.server.types import ANY_SITE, Message, Messages, State, Update, site_weights


def weighted_mean(values: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return ``sum_k p_k x_k`` as fp32, formed in float64.

    Args:
        values: one tensor a site, all of one shape.
        weights: ``p_k`` of every site in ``values``; used as given.
    """
    sites = sorted(values)
    total = torch.zeros_like(values[sites[0]], dtype=torch.float64)
    for site in sites:
        total += weights[site] * values[site].to(torch.float64)
    return total.to(torch.float32)


def mean_of_values(updates: Mapping[str, Update], *, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the weighted mean of every tensor (or of ``names``), by the sites' case shares.

    A tensor that a round did not train is in no update; it keeps the value that was sent.
    """
    weights = site_weights(updates)
    first = updates[min(updates)]
    wanted = sorted(first.values) if names is None else list(names)
    return {
        name: weighted_mean({site: update.values[name] for site, update in updates.items()}, weights) for name in wanted
    }


@dataclass(frozen=True)
class WeightedMean:
    """Every shared tensor becomes the mean of the sites' tensors, weighted by their case counts."""

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message for all sites; keeps no state."""
        return {ANY_SITE: Message(values=mean_of_values(updates))}, state
