"""An HTML table from columns and cells; all is escaped here, so that names from sites cannot become markup."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

LONG = 40  # rows above which a table scrolls in a box of its own, except in print


class Column(NamedTuple):
    """One column: its head, whether it holds numbers (right-aligned), and a hint shown on hovering."""

    head: str
    numeric: bool = True
    hint: str = ""


class Cell(NamedTuple):
    """One cell: its text, a smaller second line, the number it sorts by, and a hint shown on hovering."""

    text: str
    small: str = ""
    sort: float | None = None
    hint: str = ""


def html_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    sortable: bool = False,
    footer: Sequence[Cell] | None = None,
) -> str:
    """Return a table in a box that scrolls sideways on narrow screens.

    Args:
        columns: heads; the first cell of every row is its head.
        rows: one sequence of cells a row, as many as columns.
        sortable: whether the heads are buttons that sort.
        footer: one last row, set apart.
    """
    heads = "".join(_head(column, sortable) for column in columns)
    body = "".join(f"<tr>{_cells(columns, row)}</tr>" for row in rows)
    foot = f"<tfoot><tr>{_cells(columns, footer)}</tr></tfoot>" if footer else ""
    kind = ' class="sortable"' if sortable else ""
    table = f"<table{kind}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>{foot}</table>"
    return f'<div class="scroll{" long" if len(rows) > LONG else ""}" tabindex="0">{table}</div>'


def _head(column: Column, sortable: bool) -> str:
    hint = f' title="{escape(column.hint)}"' if column.hint else ""
    words = f'<button type="button">{escape(column.head)}</button>' if sortable else escape(column.head)
    return f'<th scope="col"{_number(column)}{hint}>{words}</th>'


def _cells(columns: Sequence[Column], row: Sequence[Cell]) -> str:
    parts = []
    for place, (column, cell) in enumerate(zip(columns, row, strict=True)):
        hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
        sort = f' data-sort="{cell.sort:.6g}"' if cell.sort is not None else ""
        small = f"<small>{escape(cell.small)}</small>" if cell.small else ""
        tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
        parts.append(f"<{tag}{scope}{_number(column)}{sort}{hint}>{escape(cell.text)}{small}</{tag}>")
    return "".join(parts)


def _number(column: Column) -> str:
    return ' class="n"' if column.numeric else ""
