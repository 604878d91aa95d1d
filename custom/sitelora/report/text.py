"""The report for a terminal: verdict, one line a site, warnings, as wide as the terminal and no wider."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from sitelora.report.costs import cost_of
from sitelora.report.findings import scored_models, verdict
from sitelora.report.format_values import ABSENT, bytes_text, columns
from sitelora.report.results import Run
from sitelora.report.table import Column, table_of
from sitelora.report.tables import site_columns
from sitelora.report.warnings_of_run import warnings

NARROWEST = 40


def summary_text(run: Run, *, width: int | None = None) -> str:
    """Return the summary of a run.

    Args:
        run: what :func:`sitelora.report.results.read_run` returned, with a second run beside it or without.
        width: columns of the terminal; ``None`` asks it (80 when there is none).
    """
    width = max(NARROWEST, width or shutil.get_terminal_size((80, 24)).columns)
    told = run.result
    title = " · ".join(part for part in (told.federation, told.method, told.paper, told.dataset) if part)
    parts = [_wrap(title, width)] if title else []
    parts.append(_wrap(verdict(run), width))
    if run.sites:
        parts.append(_table(run, width))
    lines = warnings(run)
    if lines:
        parts.append("\n".join(_wrap(line, width, first="! ", later="  ") for line in lines))
    return "\n\n".join(parts)


def _table(run: Run, width: int) -> str:
    """Return one line a site: the score of every scored model, what it gains on the run beside, bytes sent, its course.

    Columns that do not fit are left out from the right, the course of the rounds first.
    """
    columns = [
        *site_columns(run),
        Column("sent", lambda site: _sent(run, site)),
        Column("freshly trained, by round", lambda site: _course(run, site)),
    ]
    table = table_of(columns, run.sites, footer=len(run.sites) > 1 and bool(scored_models(run)))
    heads = [column.terminal or column.head.lower() for column in columns]
    rows = [[cell.text for cell in row] for row in table.rows]
    means = [[cell.text.lower() for cell in table.footer]] if table.footer else []
    return _aligned([heads, *rows, *means], width)


def _sent(run: Run, site: str) -> str:
    sent = cost_of(run, site=site).bytes_up
    return bytes_text(sent) if sent else ABSENT


def _course(run: Run, site: str) -> str:
    return " ".join(run.primary.text(value, fewer=1) for value in run.course(site, "score_personal"))


def _aligned(rows: Sequence[Sequence[str]], width: int) -> str:
    """Return rows with the first and last column to the left and the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    keep = len(widths)
    while keep > 2 and sum(widths[:keep]) + 2 * (keep - 1) > width:
        keep -= 1
    lines = columns([row[:keep] for row in rows], right=range(1, len(widths) - 1))
    return "\n".join(line[:width].rstrip() for line in lines)


def _wrap(text: str, width: int, *, first: str = "", later: str = "") -> str:
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)
