"""A mean within groups of sites that are given: what knowing who belongs together would be worth; a control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sitelora.server.mean import mean_of_values
from sitelora.server.types import ANY_SITE, Message, Messages, State, Update


@dataclass(frozen=True, kw_only=True)
class GroupMeans:
    """Every shared tensor becomes the case-weighted mean of a site's own group.

    Args:
        groups: by the name of a site, the number of its group; a site that is not named is a group of its own.
    """

    groups: Mapping[str, int]
    no_centre: ClassVar[str] = "its rule gives every group its own mean, and a centre of all would make them one"

    def __call__(self, updates: Mapping[str, Update], state: State, round_number: int) -> tuple[Messages, State]:
        """Return one message a site, and the mean of all for everyone else; keeps no state."""
        messages = {ANY_SITE: Message(values=mean_of_values(updates))}
        for site in sorted(updates):
            own = {other: update for other, update in updates.items() if self._group(other) == self._group(site)}
            messages[site] = Message(values=mean_of_values(own))
        return messages, state

    def _group(self, site: str) -> int | str:
        return self.groups.get(site, site)
