"""Another LoRA rank at every site (HetLoRA, FlexLoRA): what the wire cuts off, and what a site fills with zeros.

Every network has factors of the full rank R, so all sites agree on names, shapes and initial values. A site of rank
r works on the first r rows of A and the first r columns of B; the others are zero and stay zero: with both zero,
both gradients are exactly zero, so training is that of rank r. They never travel after the seeded initial values:
messages and updates carry r rows and columns, and both ends check them by shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

EVEN = "full"
"""Rule without cuts: every site has the full rank."""
HALVING = "halving"
"""Rule by the number that a site's name ends in: 1 has R, 2 has R / 2, 3 has R / 4, 4 has R again, and so on."""

_AXIS = {".A": 0, ".B": 1}


@dataclass(frozen=True, kw_only=True)
class SiteRanks:
    """Rank of every site, by name.

    Args:
        rank: R of the network; None where ranks do not differ (and nothing is ever cut).
        by_site: ranks of named sites, 1 to R.
        rule: of the sites that are not named: "full" or "halving".

    Raises:
        ValueError: a rank outside 1 to R, or an unknown rule.
    """

    rank: int | None = None
    by_site: Mapping[str, int] = field(default_factory=dict)
    rule: str = EVEN

    def __post_init__(self) -> None:
        if self.rule not in (EVEN, HALVING):
            raise ValueError(f"the rule of the ranks is {self.rule!r}; expected {EVEN!r} or {HALVING!r}")
        for site, rank in self.by_site.items():
            if self.rank is None or not 1 <= rank <= self.rank:
                raise ValueError(f"{site} has rank {rank}; expected 1 to {self.rank}, the rank of the network")

    def of(self, site: str) -> int | None:
        """Return a site's rank; the full one for a site never seen; None where nothing is cut."""
        if self.rank is None:
            return None
        number = re.search(r"(\d+)$", site)
        halvings = (int(number.group(1)) - 1) % 3 if number and self.rule == HALVING else 0
        return self.by_site.get(site, max(1, self.rank >> halvings))

    def cut(self, packet: Mapping[str, Tensor], site: str) -> dict[str, Tensor]:
        """Return what travels to or from a site: ``[r, d_in]`` of every A and ``[d_out, r]`` of every B."""
        rank = self.of(site)
        if rank is None or rank == self.rank:
            return dict(packet)
        return {
            name: t if (axis := _axis(name)) is None else t.narrow(axis, 0, rank).contiguous()
            for name, t in packet.items()
        }

    def padded(self, packet: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the packet with every factor filled with zeros up to the full rank R."""
        if self.rank is None:
            return dict(packet)
        return {name: t if (axis := _axis(name)) is None else _fill(t, axis, self.rank) for name, t in packet.items()}

    def kept(self, packet: Mapping[str, Tensor], site: str) -> dict[str, Tensor]:
        """Return what a site of its rank has of a packet: the full shapes, with zeros beyond its rank."""
        return self.padded(self.cut(packet, site))

    def cut_shapes(self, shapes: Mapping[str, tuple[int, ...]], site: str) -> dict[str, tuple[int, ...]]:
        """Return the shapes that travel to or from a site."""
        rank = self.of(site)
        if rank is None:
            return dict(shapes)
        cut = {}
        for name, shape in shapes.items():
            axis = _axis(name)
            cut[name] = shape if axis is None else (*shape[:axis], rank, *shape[axis + 1 :])
        return cut


def _axis(name: str) -> int | None:
    return _AXIS.get(name[-2:])


def _fill(factor: Tensor, axis: int, rank: int) -> Tensor:
    shape = list(factor.shape)
    shape[axis] = rank - shape[axis]
    return torch.cat([factor, factor.new_zeros(shape)], dim=axis) if shape[axis] else factor
