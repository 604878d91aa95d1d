"""How a federation makes one of many updates, as plain values: the method's own mean, or one that bears liars.

A setting of the job and no method of its own: `server/robust.py` puts it before the method's rule. Without torch,
because a job is read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sitelora.value_kinds import Kind, Range

MEAN, MEDIAN, TRIMMED, CAPPED = RULES = ("mean", "coordinate_median", "trimmed_mean", "norm_capped_mean")
CASES, EQUAL = WEIGHTS = ("cases", "equal")
CENTRES = (MEDIAN, TRIMMED)
"""Rules that go coordinate by coordinate and leave of all sites one centre."""

KINDS: Mapping[str, Kind] = {
    "rule": Kind(type="text", choices=RULES),
    "weights": Kind(type="text", choices=WEIGHTS),
    "trim_share": Kind(type="number", limits=Range(0, 0.49, above=True)),
    "norm_cap": Kind(type="number", limits=Range(1, 1000)),
}


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """What stands before the method's own server rule.

    Args:
        rule: "mean" leaves the method as it is; "coordinate_median", "trimmed_mean" and "norm_capped_mean" are those of
            `server/robust.py`.
        weights: a site weighs by its training "cases", or all sites "equal".
        trim_share: of "trimmed_mean", the share of sites left out at either end of every coordinate: whole sites,
            rounded down, at least one of three. 0.2 bears one liar of five to nine sites (our choice).
        norm_cap: of "norm_capped_mean", the largest norm of an update in medians of the round's norms. 1 is our choice.

    Raises:
        SettingsError: a value that is none of these.
    """

    rule: str = MEAN
    weights: str = CASES
    trim_share: float = 0.2
    norm_cap: float = 1.0

    def told(self) -> dict[str, str | float]:
        """Return what a record says of it: the rule and the number that it goes by; of a mean by cases nothing."""
        further: dict[str, dict[str, str | float]] = {
            TRIMMED: {"trim_share": self.trim_share},
            CAPPED: {"norm_cap": self.norm_cap},
        }
        weights: dict[str, str | float] = {} if self.weights == CASES else {"weights": self.weights}
        return weights if self.rule == MEAN else {"rule": self.rule, **weights, **further.get(self.rule, {})}

    def __post_init__(self) -> None:
        for key, kind in KINDS.items():
            kind.read(f"aggregation, {key}", getattr(self, key))
