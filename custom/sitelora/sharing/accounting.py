"""What noise is worth: epsilon of Gaussian releases, by opacus' Renyi accountant, and what of it a site has spent.

A release is one set of tensors that left with one clip and its noise: the weights of a round, or one companion set of
it (SCAFFOLD's controls are clipped and noised apart, so they count by themselves). The unit is **the site**: epsilon
says how well whoever sees everything that a site sent can tell whether its updates are in it or zeros with the same
noise. Every site takes part in every round, so the sampling rate is 1 and nothing is amplified. It counts tensors and
no numbers of a report.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sitelora.guarantee import DELTA, Guarantee

if TYPE_CHECKING:
    from sitelora.sharing.wire import WireFormat

SAMPLING_RATE = 1.0
ACCOUNTANT = "opacus, Renyi differential privacy"
LEAST = 1e-6
"""Noise below it counts as none: epsilon would be above 10**12, and soon beyond what a number holds."""
MISSING = "opacus, which counts epsilon, is not installed here: pip install 'sitelora[federation]'"


class AccountantMissingError(RuntimeError):
    """Epsilon cannot be counted, because opacus is not installed."""

    code = "configuration_refused"


@dataclass(frozen=True, kw_only=True)
class Releases:
    """How often tensors left with one noise.

    Args:
        noise_multiplier: standard deviation of the noise over the clip norm (a job's ``noise_std``); 0 is none.
        count: number of releases.
    """

    noise_multiplier: float
    count: int


def epsilon(releases: Iterable[Releases], *, delta: float = DELTA) -> float:
    """Return epsilon of everything that left; infinite as soon as anything left with next to no noise, 0 of nothing.

    It is an upper bound: opacus' accountant looks at a fixed list of orders.

    Args:
        releases: in any order. delta: between 0 and 1.

    Raises:
        AccountantMissingError: opacus is not installed.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}; expected a number above 0 and below 1")
    told = [one for one in releases if one.count]
    if not told:
        return 0.0
    if any(one.noise_multiplier < LEAST for one in told):
        return math.inf
    try:
        from opacus.accountants import RDPAccountant  # half a second, only where there is noise
    except ImportError as error:
        raise AccountantMissingError(MISSING) from error
    accountant = RDPAccountant()
    for one in told:
        for _ in range(one.count):
            accountant.step(noise_multiplier=one.noise_multiplier, sample_rate=SAMPLING_RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another order would bound more tightly: what is told is a bound too
        return float(accountant.get_epsilon(delta))


def noise_norm(std: float, values: int) -> float:
    """Return the norm that Gaussian noise of so many values stays below, but for one draw in fifty million.

    It is why bounds on norms leave room for it: noise of one clip norm a value on 100,000 values has 316 times the
    norm of the update that it protects.

    Args:
        std: absolute, of every value. values: how many.
    """
    return std * (math.sqrt(values) + 6) if std and values else 0.0


def same_noise(multiplier: float, count: int) -> float:
    """Return epsilon of a number of releases with one noise.

    Raises:
        AccountantMissingError: opacus is not installed.
    """
    return epsilon([Releases(noise_multiplier=multiplier, count=count)])


def guarantee(wire: WireFormat, *, rounds: int, each: int = 1, values: int | None = None) -> Guarantee:
    """Return what rounds with a wire's clip and noise guarantee to a site.

    Without opacus it says so in place of an epsilon.

    Args:
        wire: of the job. rounds: that a site answered, or will. each: releases of a round, 0 where nothing is shared.
            values: that noise is added to in a round.
    """
    releases = rounds * each
    told = Guarantee(
        clip_norm=wire.clip_norm,
        noise_multiplier=wire.noise_std,
        noise_on=wire.noise_on if wire.noise_std else "",
        sampling_rate=SAMPLING_RATE,
        rounds=rounds,
        releases=releases,
        loudness=wire.noise_std * math.sqrt(values) if wire.noise_std and values else None,
    )
    if not wire.noise_std and releases:
        clipped = "updates are clipped and no noise is added" if wire.clip_norm else "no noise is added"
        return replace(told, why_none=f"{clipped}, so no epsilon holds")
    try:
        found = same_noise(wire.noise_std, releases)
        # Another update in place of the own one is up to two clip norms away, not one.
        replaced: float | None = same_noise(wire.noise_std / 2, releases)
    except AccountantMissingError as error:
        return replace(told, why_none=str(error))
    if not math.isfinite(found):
        return replace(told, why_none="the noise is next to none, so no epsilon holds")
    replaced = replaced if replaced is not None and math.isfinite(replaced) else None
    return replace(told, epsilon=found, epsilon_replaced=replaced, accountant=ACCOUNTANT)


def rounds_within(largest: float, multiplier: float, *, each: int = 1, most: int) -> int:
    """Return how many rounds keep epsilon at most ``largest``, up to ``most``.

    Args:
        largest: epsilon. multiplier: noise over clip norm. each: releases of a round. most: rounds that are asked for.

    Raises:
        AccountantMissingError: opacus is not installed.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if same_noise(multiplier, middle * each) <= largest else (low, middle - 1)
    return low


def gathered(counts: Mapping[float, int]) -> list[Releases]:
    """Return releases from their number by noise multiplier."""
    return [Releases(noise_multiplier=noise, count=count) for noise, count in sorted(counts.items())]
