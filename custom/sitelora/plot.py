"""What is to be drawn of many cases, as numbers: a task says what, the report draws it in its own look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a plot: points, and how many cases stand behind each where that is to be seen."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    cases: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lines between 0 and 1 on both axes.

    Attributes:
        name: of the plot, for files. title: for people. reading: how to read it, a sentence or two.
        x, y: what the axes are. lines: what is drawn. diagonal: what the line from corner to corner stands for.
    """

    name: str
    title: str
    reading: str
    x: str
    y: str
    lines: Sequence[Line]
    diagonal: str = ""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Whole numbers in rows and columns of the same names.

    Attributes:
        name: of the plot, for files. title: for people. reading: how to read it, a sentence or two.
        rows, columns: what they are. names: of both. counts: ``[row][column]``.
    """

    name: str
    title: str
    reading: str
    rows: str
    columns: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]


Plot = Curves | Counts
