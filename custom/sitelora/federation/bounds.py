"""What the server takes from a site, in numbers: norm of an update, share of the weight. Settings of a job; no torch.

How the defaults were chosen: in the conformance runs of eight methods an honest update has a norm from 1 to 12
(`fedavg_all`, which sends the whole network), in a real run of `iat_cells` up to 5, and of two sites of one round the
longer is at most 1.8 times the shorter. The bounds leave a factor of three and more beyond that. Raise
``largest_ratio`` where one site makes many times the steps of another; ``result.json`` holds the norms of every round.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from sitelora.value_kinds import Kind, Range

FEW = 3
"""Below so many updates in a round there is no majority: no median to be judged by, and one always has half."""

KINDS: Mapping[str, Kind] = {
    "largest_norm": Kind(type="number", limits=Range(0, 1e30, above=True), optional=True),
    "largest_ratio": Kind(type="number", limits=Range(1, 1e12, above=True), optional=True),
    "smallest_ratio": Kind(type="number", limits=Range(0, 1), optional=True),
    "largest_share": Kind(type="number", limits=Range(0, 1, above=True), optional=True),
}

Norms = Mapping[str, float]
"""Norm of an update's change, under ``""``, and of every companion set by its name."""


class OutOfBounds(ValueError):
    """An update that the federation's bounds do not allow; says whose, what was found and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a federation takes; None switches a bound off.

    Args:
        largest_norm: of an update's change, and of each companion set by itself, beside the noise that a job asks for.
        largest_ratio, smallest_ratio: of such a norm to the median of the round's; of three updates and more.
        largest_share: of the weight that one site has in a round of three updates and more: cases beyond it do not
            count. 0.6 is our choice: the largest honest one of a shipped dataset is 0.55 (Guy's Hospital in IXI).

    Raises:
        SettingsError: a value that is none of these.
    """

    largest_norm: float | None = 1000.0
    largest_ratio: float | None = 5.0
    smallest_ratio: float | None = 0.001
    largest_share: float | None = 0.6

    def __post_init__(self) -> None:
        for key, kind in KINDS.items():
            kind.read(f"bounds, {key}", getattr(self, key))

    def require_norm(self, site: str, norms: Norms, *, noise: float = 0.0, growth: float = 0.0) -> None:
        """Refuse an update by itself.

        Args:
            site: whose. norms: of it. noise: the norm that the noise in each of them may have.
            growth: share of the norm that the wire's rounding may add.

        Raises:
            OutOfBounds: it is longer than ``largest_norm``.
        """
        largest = self.largest_norm
        for name, norm in norms.items():
            if largest is not None and not norm <= (largest + noise) * (1 + growth):
                beside = f" and the noise {noise:.4g}" if noise else ""
                raise OutOfBounds(
                    f"{site}: {_what(name)} has the norm {norm:.4g}, bounds.largest_norm is {largest:g}{beside}: "
                    "a learning rate that is too high does this, or a site that is not honest"
                )

    def outliers(self, by_site: Mapping[str, Norms]) -> dict[str, str]:
        """Return why updates do not fit the others of their round, by site.

        The median is of all that were taken one by one; it is honest as long as most sites are.
        """
        found: dict[str, str] = {}
        if len(by_site) < FEW:
            return found
        for name in sorted({name for norms in by_site.values() for name in norms}):
            median = statistics.median(norms.get(name, 0.0) for norms in by_site.values())
            for site, norms in sorted(by_site.items()):
                if median <= 0 or site in found:
                    continue
                ratio = norms.get(name, 0.0) / median
                told = f"{site}: {_what(name)} has {ratio:.3g} times the norm of the round's median, {median:.4g}"
                if self.largest_ratio is not None and ratio > self.largest_ratio:
                    found[site] = f"{told}; bounds.largest_ratio is {self.largest_ratio:g}"
                elif self.smallest_ratio is not None and ratio < self.smallest_ratio:
                    found[site] = f"{told}; bounds.smallest_ratio is {self.smallest_ratio:g}"
        return found

    def counted(self, cases: Mapping[str, int]) -> dict[str, int]:
        """Return the cases that count, by site: of nobody more than ``largest_share`` of all that count.

        The largest counts are cut to one number; where the share is less than one site's of all, they count alike.
        """
        share = self.largest_share
        if share is None or len(cases) < FEW or max(cases.values()) <= share * sum(cases.values()):
            return dict(cases)
        ordered = sorted(cases.values())
        for cut in range(1, len(ordered)):  # so many are cut, each to share / (1 - cut * share) of the others' sum
            rest = sum(ordered[:-cut])
            limit = share * rest / (1 - cut * share) if cut * share < 1 else 0.0
            if limit >= ordered[-cut - 1]:
                whole = int(limit * (1 + 1e-9))
                return {site: min(count, whole) for site, count in cases.items()}
        return dict.fromkeys(cases, 1)


def _what(name: str) -> str:
    return f"the companion {name}" if name else "its update"
