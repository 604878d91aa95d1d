"""SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378): control variates against drift.

A site's control ``c_k`` estimates the gradient of its task, the server's ``c`` that of all: every gradient is corrected
by ``c - c_k``, as the linear term ``<c - c_k, w>`` would. After a round ``c_k`` is the mean of the task's gradients
over the round's steps, before corrections and clipping, and travels beside the weights (twice the bytes).

Exact: with plain SGD that mean is the paper's option II, ``c_k - c + (w_received - w) / (T eta)``. It is taken from the
gradients themselves (our choice), so it stays one under every optimiser: a step of AdamW divided by T eta is 68 to
1,260 times the gradient. Weights and controls are both averaged by cases (our choice; the paper's objective is
uniform), so the objective is that of every other method here: ``sum_k p_k f_k``. The server keeps the last control of
every site, so c is their mean whoever took part in a round.

Our choice besides: a site that has no control yet is not corrected, and all methods have one optimiser, so under AdamW
the corrected gradient passes through the moments, for which the paper proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sitelora.adapters.lora import LoRA
from sitelora.method import INEXACT, LocalProgram, Method
from sitelora.regularizers.base import SiteView
from sitelora.server.mean import mean_of_values, weighted_mean
from sitelora.server.types import ANY_SITE, Message, Messages, State, Update
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Rank, Scale

CONTROL = "control"


class _Correction:
    def __init__(self, view: SiteView) -> None:
        self._terms = [
            (p, (view.companions[key] - view.memory[key]).to(p.device))
            for name, p in view.parameters.items()
            for key in [f"{CONTROL}/{name}"]
            if key in view.companions and key in view.memory
        ]

    def __call__(self) -> Tensor:
        if not self._terms:
            return torch.zeros(())
        return torch.stack([(p * correction).sum() for p, correction in self._terms]).sum()

    def after_step(self) -> None:
        """Nothing to note."""


@dataclass(frozen=True)
class LinearCorrection:
    """Add ``<c - c_k, w>`` over the shared tensors; nothing where the site or the server has no control yet."""

    largest_share: ClassVar[None] = None

    def start(self, view: SiteView) -> _Correction:
        """Return the penalty for one pass."""
        return _Correction(view)


@dataclass(frozen=True)
class ControlUpdate(LocalProgram):
    """Take the mean of the task's gradients as the new ``c_k``, keep it and send it."""

    companions: ClassVar[tuple[str, ...]] = (CONTROL,)
    wants_gradients: ClassVar[bool] = True

    def after_training(self, view: SiteView, *, steps: int, learning_rate: float) -> dict[str, Tensor]:
        """Return ``control/<tensor>`` for every shared tensor: the new ``c_k``."""
        controls = {}
        for name in sorted(view.shared):
            control = view.mean_gradient.get(name)
            if control is None:  # the task does not see this tensor
                control = torch.zeros_like(view.received[name])
            controls[f"{CONTROL}/{name}"] = control
        view.memory.update(controls)
        return controls


@dataclass(frozen=True)
class MeanWithControl:
    """Mean of the weights over the sites of the round, and of the controls over all sites seen so far, by cases."""

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message for all sites; the state keeps ``cases/<site>`` and ``control/<site>/<tensor>``."""
        values = mean_of_values(updates)
        kept = dict(state)
        for site, update in updates.items():
            kept[f"cases/{site}"] = torch.tensor(update.cases)
            kept.update({f"{CONTROL}/{site}/{name}": update.companions[f"{CONTROL}/{name}"] for name in values})
        cases = {key.removeprefix("cases/"): int(kept[key]) for key in sorted(kept) if key.startswith("cases/")}
        share = {site: count / sum(cases.values()) for site, count in cases.items()}
        control = {
            f"{CONTROL}/{name}": weighted_mean({site: kept[f"{CONTROL}/{site}/{name}"] for site in share}, share)
            for name in sorted(values)
        }
        return {ANY_SITE: Message(values=values, companions=control)}, kept


def scaffold(*, rank: Rank = 8, scale: Scale = 1.0) -> Method:
    """Return SCAFFOLD on LoRA factors and heads.

    Args:
        rank: r of every pair. scale: s.
    """
    return Method(
        name="scaffold",
        paper="arXiv:1910.06378",
        adapters=(LoRA(rank=rank, scale=scale),),
        share=ShareRule(shared=("**.A", "**.B", "@heads")),
        server=MeanWithControl(),
        regularizers=(LinearCorrection(),),
        program=ControlUpdate(),
        mean_product=INEXACT,
    )
