"""What a check of a site's data found: every problem with its remedy, and a summary of the readable cases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sitelora.data.errors import SiteDataError
from sitelora.data.likeness import Likeness
from sitelora.data.needs import DataNeeds
from sitelora.data.seen import Seen


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: an error stops training, a warning does not.

    With ``found`` alone, that is the whole message.
    """

    severity: Literal["error", "warning"]
    found: str
    expected: str = ""
    remedy: str = ""
    case: str = ""
    file: str = ""

    @property
    def sort(self) -> tuple[str, ...]:
        """What problems of several cases have in common: all but the case, its file and the numbers in it."""
        return (self.severity, re.sub(r"-?[0-9.]+", "#", self.found) if self.case else str(self), self.expected)

    def __str__(self) -> str:
        if not (self.case or self.file or self.expected or self.remedy):
            return self.found
        where = f"{self.case} ({self.file}): " if self.case and self.file else f"{self.case or self.file}: "
        expected = f", expected {self.expected}" if self.expected else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{where if self.case or self.file else ''}found {self.found}{expected}{remedy}"


def error(found: str, expected: str, remedy: str, *, case: str = "", file: str = "") -> Problem:
    """Return a problem that stops training."""
    return Problem(severity="error", found=found, expected=expected, remedy=remedy, case=case, file=file)


def warning(found: str, expected: str, remedy: str, *, case: str = "", file: str = "") -> Problem:
    """Return a problem that does not."""
    return Problem(severity="warning", found=found, expected=expected, remedy=remedy, case=case, file=file)


def grouped(problems: Sequence[Problem], most: int = 3) -> list[tuple[Problem, str]]:
    """Return problems with their lines; of those that differ in the case alone, the first ones and how many follow.

    Args:
        problems: in order. most: of one sort that are told one by one.
    """
    sorts = Counter(problem.sort for problem in problems)
    told: Counter[tuple[str, ...]] = Counter()
    lines = []
    for problem in problems:
        told[problem.sort] += 1
        number, total = told[problem.sort], sorts[problem.sort]
        if number > most:
            continue
        more = total - most if number == most else 0
        lines.append((problem, f"{problem}{f'; and so in {more} more case(s)' if more > 0 else ''}"))
    return lines


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An image as the list names it.

    Attributes:
        split: training, validation or test. case: its name, unique at the site. file: its place in the site folder.
        patient: whose it is.
    """

    split: str
    case: str
    file: str
    patient: str


@dataclass(frozen=True, kw_only=True)
class CaseSummary:
    """One readable case.

    Attributes:
        case: its name, unique at the site.
        split: training, validation or test.
        extent: voxels along every axis, without channels.
        spacing_mm: voxel size, ``None`` for pictures.
        lowest: smallest value of the image.
        highest: largest value of the image.
        label_voxels: voxels of every label value.
        channels: 1, the colours, or the phases of a stack.
        slices: along the axis that the network takes for slices, 1 of a picture.
        seen: intensities after scaling.
    """

    case: str
    split: str
    extent: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    lowest: float
    highest: float
    label_voxels: Mapping[int, int]
    channels: int
    slices: int
    seen: Seen


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check found at one site; ``images`` are the readable ones, to compare with other sites' in one process."""

    path: Path
    site: str
    hospital: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)
    class_counts: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    case_counts: Mapping[str, int] = field(default_factory=dict)
    patients: int = 0
    cases: tuple[CaseSummary, ...] = ()
    problems: tuple[Problem, ...] = ()
    needs: DataNeeds | None = None
    images: tuple[tuple[Listed, Likeness], ...] = field(default=(), repr=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that stop training."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that do not."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def label_histogram(self) -> dict[int, int]:
        """Voxels of every label value over all readable cases."""
        total: Counter[int] = Counter()
        for case in self.cases:
            total.update(case.label_voxels)
        return dict(sorted(total.items()))

    def raise_if_bad(self) -> None:
        """Stop here when training on this data would go wrong.

        Raises:
            SiteDataError: there is an error; the message lists all of them, each with its remedy.
        """
        if self.errors:
            lines = "".join(f"\n  {number}. {text}" for number, (_, text) in enumerate(grouped(self.errors), 1))
            raise SiteDataError(f"site {self.site}: {len(self.errors)} error(s) in the data of {self.path}:{lines}")
