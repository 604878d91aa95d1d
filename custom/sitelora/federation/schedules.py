"""How the learning rate falls over a whole federation: a factor of the step, whichever round the step is in.

A round knows its number, so a schedule that spans rounds needs nothing to be kept: a round that is done twice, or
after an interruption, has the same rates. A schedule is planned for a number of rounds of its own; a federation that
stops earlier leaves its end unused (FLAP-SAM's released code plans 200 epochs and stops after 100).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from ignite.engine import Engine, Events


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The rate stays what the optimiser was given; the others build on this one.

    Args:
        rounds: for which it is planned; 0 keeps the rate constant.
        warmup_steps: optimiser steps from the first of the federation over which the rate rises linearly to its full
            value.

    Raises:
        ValueError: a negative number.
    """

    rounds: int = 0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.warmup_steps < 0:
            raise ValueError(
                f"found rounds={self.rounds}, warmup_steps={self.warmup_steps}; expected 0 or more: 0 rounds keep the "
                "learning rate constant"
            )

    def factor(self, *, round_number: int, step: int, steps: int) -> float:
        """Return what the optimiser's rate is multiplied by.

        Args:
            round_number: from 0.
            step: of the round, from 0. steps: in the round.
        """
        if not self.rounds:
            return 1.0
        done, total = round_number * steps + step, self.rounds * steps
        if done < self.warmup_steps:
            return (done + 1) / (self.warmup_steps + 1)
        return self.after_warmup(done - self.warmup_steps, total)

    def after_warmup(self, done: int, total: int) -> float:
        """Return the factor after ``done`` steps since the warm-up; ``total`` is planned with the warm-up."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from 1 to ``lowest`` (Loshchilov and Hutter, arXiv:1608.03983, without restarts)."""

    lowest: float = 0.01

    def after_warmup(self, done: int, total: int) -> float:
        """Return the factor."""
        share = min(1.0, done / max(1, total - self.warmup_steps))
        return self.lowest + (1 - self.lowest) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True, kw_only=True)
class Polynomial(Schedule):
    """``(1 - done / total) ** power``, as in FLAP-SAM's released code: power 7 after 250 steps of warm-up."""

    power: float = 7.0

    def after_warmup(self, done: int, total: int) -> float:
        """Return the factor."""
        return float(max(0.0, 1 - done / total) ** self.power)


class RateSetter:
    """Sets the rate before every step of an ignite trainer, and remembers the mean of those it set.

    As a handler of a bundle's own training, which has no rounds, all epochs are one round.

    Args:
        optimizer: its groups' rates when this is made are the full ones.
        schedule: the schedule.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule) -> None:
        self._optimizer = optimizer
        self.schedule = schedule
        self._full = [float(group["lr"]) for group in optimizer.param_groups]
        self._sum, self._count = 0.0, 0
        self.round_number = 0

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def begin(self, round_number: int) -> None:
        """Begin a pass of a round."""
        self.round_number, self._sum, self._count = round_number, 0.0, 0

    @property
    def mean_rate(self) -> float:
        """Mean rate of the first group over the steps since `begin`."""
        return self._sum / self._count if self._count else self._full[0]

    def __call__(self, engine: Engine) -> None:
        """Set the rate of the step that begins."""
        state = engine.state
        steps = int(state.max_epochs or 1) * int(state.epoch_length or 1)
        factor = self.schedule.factor(round_number=self.round_number, step=state.iteration - 1, steps=steps)
        for group, full in zip(self._optimizer.param_groups, self._full, strict=True):
            group["lr"] = full * factor
        self._sum += self._full[0] * factor
        self._count += 1
