"""What clip and noise of a run are worth, as a record and in plain words, the same wherever they are said."""

from __future__ import annotations

import math
from dataclasses import dataclass

DELTA = 1e-5
"""The chance with which epsilon may not hold, in all that is told here: small against one over any number of sites."""
STRONG, WEAK = 1.0, 10.0
"""Up to the first epsilon a guarantee is called strong, above the second it means nothing (Ponomareva et al., "How to
DP-fy ML", arXiv 2303.00654: at most 1 strong, at most 10 reasonable, above it weak or none)."""
_COVERS = "It counts tensors alone: case counts, losses and scores leave beside them without noise."


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What is formally guaranteed to one site by the noise of a job; a site's own ledger counts over all its runs.

    Attributes:
        unit: of privacy: "site", its whole update of a round; nothing is clipped by case, so no patient is a unit.
        clip_norm: largest L2 norm of an update. noise_multiplier: standard deviation of the noise over it; 0 is none.
        noise_on: "one" or "both" factors of a pair. sampling_rate: share of the rounds that a site takes part in.
        rounds: that are counted. releases: of noised tensors in them: a set of companions counts by itself.
        delta: the chance with which epsilon may not hold. epsilon: against a site that sends noise alone; None: there
            is no guarantee. epsilon_replaced: against the same site with any other data in place of its own.
        loudness: norm of the noise of one update over the clip norm, where it is known how many values it has.
        accountant: what counted it. why_none: why there is no epsilon.
    """

    unit: str = "site"
    clip_norm: float | None = None
    noise_multiplier: float = 0.0
    noise_on: str = ""
    sampling_rate: float = 1.0
    rounds: int = 0
    releases: int = 0
    delta: float = DELTA
    epsilon: float | None = None
    epsilon_replaced: float | None = None
    loudness: float | None = None
    accountant: str = ""
    why_none: str = ""

    @property
    def headline(self) -> str:
        """Return in one sentence what is guaranteed, or that nothing is."""
        if self.epsilon is None:
            return f"No formal guarantee: {self.why_none or 'it is not known whether noise was added'}."
        if not self.releases:
            return "No trained tensor leaves a site, so there is nothing to guarantee."
        rounds = f"{self.rounds} round{'' if self.rounds == 1 else 's'}"
        return (
            f"Epsilon {epsilon_text(self.epsilon)} (delta {self.delta:g}) for a site as a whole, after {rounds} with "
            f"noise of {self.noise_multiplier:g} times the clip norm in every value."
        )

    @property
    def meaningless(self) -> bool:
        """Whether there is an epsilon and it is too large to mean anything."""
        return self.epsilon is not None and self.epsilon > WEAK

    @property
    def meaning(self) -> str:
        """Return what the number means to somebody who does not know it; empty without one."""
        if self.epsilon is None or not self.releases:
            return ""
        if self.meaningless:
            return (
                "That is too large to mean anything: the bound lets an onlooker be right every time. Clip and noise "
                "may make an attack harder; nothing is proved."
            )
        right = f"{100 * guessed_right(self.epsilon, self.delta):.1f}"
        grade = "a strong guarantee" if self.epsilon <= STRONG else "some protection and no strong one"
        return (
            f"That is {grade}: whoever sees everything that a site sent and has to guess whether its data are in it is "
            f"right at most {right} times of 100; 50 is guessing."
        )

    @property
    def words(self) -> list[str]:
        """Return all of it, a sentence or two an entry."""
        told = [self.headline]
        if self.epsilon is None or not self.releases:
            return told
        told += [self.meaning, _COVERS]
        if self.loudness is not None:
            told.append(f"The noise of one update is {self.loudness:,.3g} times as long as the update may be.")
        if self.epsilon_replaced is not None:
            told.append(
                "It compares with a site that sends noise alone; with the same site and any other data it is "
                f"{epsilon_text(self.epsilon_replaced)}."
            )
        return told


def epsilon_text(value: float) -> str:
    """Return an epsilon with three digits; what is beyond any meaning is not told by the digit."""
    if value == math.inf:
        return "none: some of it left without noise"
    return "above 1,000" if value > 1000 else f"{value:.3g}"


def guessed_right(epsilon: float, delta: float) -> float:
    """Return the largest share of right guesses between two cases that are as likely before (0.5 to 1)."""
    return min(1.0, (1 + delta * math.exp(-epsilon)) / (1 + math.exp(-epsilon)))
