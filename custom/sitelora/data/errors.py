"""What is raised when a site's data is not what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class SiteDataError(ValueError):
    """A site's data is missing or not what the contract asks for; the message says how to mend it."""


class UnfitFileError(SiteDataError):
    """A file that must not be used: what was found, what was expected, what to do."""

    def __init__(self, file: Path, found: str, expected: str, remedy: str) -> None:
        super().__init__(f"{file}: found {found}, expected {expected}; {remedy}")
        self.found, self.expected, self.remedy = found, expected, remedy


def behind(error: BaseException) -> SiteDataError | None:
    """Return the word on a site's data that a transform of MONAI's has wrapped in errors of its own, or nothing."""
    one: BaseException | None = error
    while one is not None and not isinstance(one, SiteDataError):
        one = one.__cause__
    return one


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return names for a message: the first of them, and that there are more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
