"""Tables as facts: columns that say what stands in them, cells, a last row; page and terminal show the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Pair(NamedTuple):
    """A name and its value, with a small remark below."""

    name: str
    value: str
    remark: str = ""


class Cell(NamedTuple):
    """One cell: its text, a smaller second line, the number it sorts by, and a hint shown on hovering."""

    text: str
    small: str = ""
    sort: float | None = None
    hint: str = ""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        head: its head; the first column of a table names the rows. cell: from the subject of a row to its cell or text.
        foot: what stands in the last row. hint: shown on hovering over the head.
        numeric: right-aligned. terminal: the head on a terminal, where it is another.
    """

    head: str
    cell: Callable[[Any], Cell | str]
    foot: str = ""
    hint: str = ""
    numeric: bool = True
    terminal: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns, rows of as many cells, and a last row set apart (or none)."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    footer: Sequence[Cell] = ()


def table_of(columns: Sequence[Column], subjects: Iterable[Any], *, footer: bool = False) -> Table:
    """Return the table with one row a subject."""
    return Table(
        columns=columns,
        rows=[[_cell(column.cell(subject)) for column in columns] for subject in subjects],
        footer=[Cell(column.foot) for column in columns] if footer else (),
    )


def _cell(content: Cell | str) -> Cell:
    return content if isinstance(content, Cell) else Cell(content)
