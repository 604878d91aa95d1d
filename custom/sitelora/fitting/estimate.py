"""From probes to answers: seconds of a round and of a job, bytes at any batch, the largest batch that fits.

Memory of training is a straight line in the batch: the network and its buffers, plus what each case of a batch costs.
What does not grow with the batch (reading the base, scoring whole volumes) is a floor below it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sitelora.fitting.measured import Measured, Memory

MARGIN = 1.15
"""The estimate is promised to be right within 15 %; what is said to fit has that much room above it."""
PRESETS_GB = (8, 16, 24, 80)


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """What a job takes at a site, without the way to the server and without waiting for others.

    Attributes:
        start: from the process's start to the first round. round: one with validation. evaluation: after the last one.
        whole: all of it. steps: optimiser steps of a round. step, validation_case, test_case: one of each.
    """

    start: float
    round: float
    evaluation: float
    whole: float
    steps: int
    step: float
    validation_case: float
    test_case: float


def seconds_of(measured: Measured, counts: Mapping[str, int], *, rounds: int, evaluates: bool) -> Seconds:
    """Return what a job takes.

    Args:
        measured: of a probe at the job's own batch. counts: cases of the whole site, by split.
        rounds: of the job. evaluates: whether the models are scored after the last one.
    """
    per_epoch = measured.steps_per_epoch or math.ceil(counts["training"] / measured.batch)
    steps = measured.passes * measured.epochs * per_epoch
    start = measured.ready_s + measured.build_s + measured.first_step_s
    start += measured.check_case_s * sum(counts.values()) + measured.cache_case_s * counts["training"]
    start += measured.prepare_case_s * counts["validation"]
    validation = 2 * measured.validation_case_s * counts["validation"]  # before training and after it
    trained = steps * measured.step_s + measured.round_rest_s
    every = measured.validate_every
    validated = sum(not number or number + 1 >= rounds or (number + 1) % every == 0 for number in range(rounds))
    evaluation = 0.0
    if evaluates:
        again = measured.validation_case_s * counts["validation"]
        evaluation = measured.evaluation_rest_s + measured.test_case_s * counts["test"] + again
    return Seconds(
        start=start,
        round=trained + validation,
        evaluation=evaluation,
        whole=start + rounds * trained + validated * validation + evaluation,
        steps=steps,
        step=measured.step_s,
        validation_case=measured.validation_case_s,
        test_case=measured.test_case_s,
    )


def process_bytes(measured: Measured, memory: Memory, counts: Mapping[str, int]) -> int:
    """Return the resident memory of a phase with all cases of the site, of which the probe held only a few."""
    missing = max(0, counts["training"] - measured.cases["training"])
    training = missing * (measured.case_bytes + (measured.prefix_case_bytes if prefix_fits(measured, counts) else 0))
    held = measured.kept_bytes * measured.cases["validation"]
    kept = min(measured.room, measured.kept_bytes * (counts["validation"] + counts["test"]))
    return memory.process + training + max(0, kept - held)


def prefix_bytes(measured: Measured, counts: Mapping[str, int]) -> int:
    """Return what `prefix_cache` would keep for all training cases of the site."""
    return measured.prefix_case_bytes * counts["training"]


def prefix_fits(measured: Measured, counts: Mapping[str, int]) -> bool:
    """Say whether a site keeps it: all of it or nothing, by the room that a process has for it."""
    return prefix_bytes(measured, counts) <= measured.prefix_room


@dataclass(frozen=True, kw_only=True)
class Line:
    """Bytes of training at a batch: ``base + each * batch``, and at least ``floor``.

    Attributes:
        base, each: of the line. floor: of the phases that do not grow with the batch.
        missed: by which share of the measurement the line misses the worst of its points; None where two or fewer are
            on it anyway.
    """

    base: float
    each: float
    floor: float
    missed: float | None

    @classmethod
    def through(cls, points: Mapping[int, float], *, floor: float) -> Line:
        """Return the line of least squares through bytes by batch; flat through one point.

        A slope below nothing is noise, and flat too.
        """
        batches, values = list(points), list(points.values())
        middle, mean = sum(batches) / len(batches), sum(values) / len(values)
        spread = sum((batch - middle) ** 2 for batch in batches)
        crossed = sum((batch - middle) * (value - mean) for batch, value in points.items())
        each = max(0.0, crossed / spread) if spread else 0.0
        base = mean - each * middle
        missed = max(abs(base + each * batch - value) / value for batch, value in points.items())
        return cls(base=base, each=each, floor=floor, missed=missed if len(points) > 2 else None)

    def at(self, batch: int) -> float:
        """Return the bytes at a batch."""
        return max(self.floor, self.base + self.each * batch)

    def largest(self, there_is: float, *, most: int, below: int | None = None) -> int:
        """Return the largest batch for this memory, with the margin; 0 where none fits.

        Args:
            there_is: bytes. most: that may be set. below: a batch that did not fit when it was tried with no more
                than that.
        """
        room = there_is / MARGIN
        if self.at(1) > room:
            return 0
        fits = most if not self.each else int(min(most, (room - self.base) // self.each))
        return max(1, min(fits, below - 1) if below is not None else fits)


def batches_to_probe(batch: int) -> Sequence[int]:
    """Return the batches by which the line is drawn, the job's own first."""
    return (batch, 2 * batch, 4 * batch)
