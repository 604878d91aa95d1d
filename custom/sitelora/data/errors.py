"""What is raised when a site's data is not what it must be."""

from __future__ import annotations

from collections.abc import Sequence


class SiteDataError(ValueError):
    """A site's data is missing or not what the contract asks for; the message says how to mend it."""


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return names for a message: the first of them, and that there are more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
