"""SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378): control variates against drift, option II.

A site adds ``<c - c_k, w>`` to its loss, so every gradient is corrected by ``c - c_k``; after T steps of size eta
``c_k <- c_k - c + (w_received - w) / (T eta)`` and the change travels beside the weights (twice the bytes). The
server averages the weights by cases and moves ``c`` by ``|S| / N`` of the mean change. Exact for plain SGD; under
AdamW the correction passes through the moments and ``(w_received - w) / (T eta)`` is only in the gradient's
direction, an approximation that is our choice so that all methods have one optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sitelora.adapters.lora import encoder_and_decoder
from sitelora.method import INEXACT, LocalProgram, Method
from sitelora.networks.names import HEADS
from sitelora.regularizers.base import SiteView
from sitelora.server.mean import mean_of_values, weighted_mean
from sitelora.server.types import ANY_SITE, Message, Messages, State, Update
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale

CONTROL = "control"


def _control(source: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    value = source.get(f"{CONTROL}/{name}")
    return torch.zeros_like(like) if value is None else value.to(like.device)


class _Correction:
    def __init__(self, view: SiteView) -> None:
        self._terms = [
            (p, _control(view.companions, name, p.data) - _control(view.memory, name, p.data))
            for name, p in view.parameters.items()
            if name in view.shared
        ]

    def __call__(self) -> Tensor:
        return torch.stack([(p * correction).sum() for p, correction in self._terms]).sum()

    def after_step(self) -> None:
        """Nothing to note."""


@dataclass(frozen=True)
class LinearCorrection:
    """Add ``<c - c_k, w>`` over the shared tensors."""

    largest_share: ClassVar[None] = None

    def start(self, view: SiteView) -> _Correction:
        """Return the penalty for one pass."""
        return _Correction(view)


class ControlUpdate(LocalProgram):
    """Renew ``c_k`` after training and send its change."""

    companions = (CONTROL,)

    def after_training(self, view: SiteView, *, steps: int, learning_rate: float) -> dict[str, Tensor]:
        """Return ``control/<tensor>``: the change of ``c_k``; the new one stays in the site's memory."""
        changes = {}
        for name in sorted(view.shared):
            now = view.parameters[name].detach()
            drift = (view.received[name].to(now.device) - now) / (steps * learning_rate)
            change = drift - _control(view.companions, name, now)
            view.memory[f"{CONTROL}/{name}"] = _control(view.memory, name, now) + change
            changes[f"{CONTROL}/{name}"] = change
        return changes


@dataclass(frozen=True)
class MeanWithControl:
    """Weighted mean of the weights; ``c`` moves by the mean change times the share of the sites that took part.

    N is the largest number of sites that any round has seen: a server rule is told no other number.
    """

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message for all sites; the state keeps ``c`` and N."""
        largest = max(len(updates), int(state["sites"]) if "sites" in state else 0)
        share = {site: 1 / largest for site in updates}  # |S| / N times a plain mean over S
        values = mean_of_values(updates)
        control = {}
        for name in sorted(values):
            key = f"{CONTROL}/{name}"
            move = weighted_mean({site: update.companions[key] for site, update in updates.items()}, share)
            control[key] = _control(state, name, move) + move
        return (
            {ANY_SITE: Message(values=values, companions=control)},
            {**control, "sites": torch.tensor(largest)},
        )


def scaffold(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return SCAFFOLD on LoRA factors and heads.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="scaffold",
        paper="arXiv:1910.06378",
        adapters=encoder_and_decoder(rank=rank, scale=scale),
        share=ShareRule(shared=("**.A", "**.B", *HEADS)),
        server=MeanWithControl(),
        regularizers=(LinearCorrection(),),
        program=ControlUpdate(),
        mean_product=INEXACT,
    )
