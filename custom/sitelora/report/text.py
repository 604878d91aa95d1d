"""The report for a terminal: verdict, one line a site, warnings, as wide as the terminal and no wider."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from sitelora.report.findings import mean_dice, verdict, warnings
from sitelora.report.results import Run
from sitelora.report.style import SHORT
from sitelora.report.words import ABSENT, bytes_text, dice_text

NARROWEST = 40


def summary_text(run: Run, *, width: int | None = None) -> str:
    """Return the summary of a run.

    Args:
        run: what :func:`sitelora.report.results.read_run` returned.
        width: columns of the terminal; ``None`` asks it (80 when there is none).
    """
    width = max(NARROWEST, width or shutil.get_terminal_size((80, 24)).columns)
    facts = run.facts
    title = " · ".join(str(facts[k]) for k in ("federation", "method", "paper", "dataset") if facts.get(k))
    parts = [_wrap(title, width)] if title else []
    parts.append(_wrap(verdict(run), width))
    table = _table(run, width)
    if table:
        parts.append(table)
    lines = warnings(run)
    if lines:
        parts.append("\n".join(_wrap(line, width, first="! ", later="  ") for line in lines))
    return "\n\n".join(parts)


def _table(run: Run, width: int) -> str:
    """Return one line a site: Dice of every model, Dice by round after training, bytes sent.

    Columns that do not fit are left out from the right, the course of the rounds first.
    """
    if not run.sites:
        return ""
    head = [
        "site",
        *(SHORT.get(model, model).lower() for model in run.models),
        "sent",
        "after training, by round",
    ]
    rows = []
    for site in run.sites:
        scores = run.evaluation.get(site, {})
        dice = [
            "n/a" if m in scores and scores[m].not_applicable else dice_text(scores[m].dice if m in scores else None)
            for m in run.models
        ]
        entries = [each.sites.get(site) for each in run.rounds]
        sent = sum(entry.bytes_up for entry in entries if entry)
        course = [entry.metrics.get("dice_personal") if entry else None for entry in entries]
        words = " ".join(ABSENT if value is None else f"{value:.2f}" for value in course)
        rows.append([site, *dice, bytes_text(sent) if sent else ABSENT, words])
    if len(run.sites) > 1 and run.models:
        rows.append(["mean", *(dice_text(mean_dice(run, model)) for model in run.models), "", ""])
    return _aligned([head, *rows], width)


def _aligned(rows: Sequence[Sequence[str]], width: int) -> str:
    """Return rows with the first and last column to the left and the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    keep = len(widths)
    while keep > 2 and sum(widths[:keep]) + 2 * (keep - 1) > width:
        keep -= 1
    lines = []
    for row in rows:
        cells = []
        for place in range(keep):
            left = place in (0, len(widths) - 1)
            cells.append(row[place].ljust(widths[place]) if left else row[place].rjust(widths[place]))
        lines.append("  ".join(cells)[:width].rstrip())
    return "\n".join(lines)


def _wrap(text: str, width: int, *, first: str = "", later: str = "") -> str:
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)
