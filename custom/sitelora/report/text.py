"""The report for a terminal: verdict, one line a site, warnings, as wide as the terminal and no wider."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from sitelora.report.compare_two_runs import beside_difference, beside_pairs, difference_text, with_beside
from sitelora.report.findings import mean_dice, verdict
from sitelora.report.format_values import ABSENT, bytes_text, dice_text
from sitelora.report.results import Run
from sitelora.report.style import SHORT
from sitelora.report.warnings_of_run import warnings

NARROWEST = 40


def summary_text(run: Run, beside: Run | None = None, *, width: int | None = None) -> str:
    """Return the summary of a run.

    Args:
        run: what :func:`sitelora.report.results.read_run` returned.
        beside: a second run, usually with method ``local``, whose personal Dice gets a column.
        width: columns of the terminal; ``None`` asks it (80 when there is none).

    Raises:
        ReportError: the two runs cannot be compared.
    """
    run = run if beside is None else with_beside(run, beside)
    width = max(NARROWEST, width or shutil.get_terminal_size((80, 24)).columns)
    told = run.result
    title = " · ".join(part for part in (told.federation, told.method, told.paper, told.dataset) if part)
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
    """Return one line a site: Dice of every scored model, what it gains on the run beside, bytes sent, its course.

    Columns that do not fit are left out from the right, the course of the rounds first.
    """
    if not run.sites:
        return ""
    models = [model for model in run.models if mean_dice(run, model) is not None]
    pairs = beside_pairs(run)
    gains = {site: difference_text(one - two) for site, (one, two) in pairs.items()}
    head = ["site"]
    for model in models:
        head += [SHORT.get(model, model).lower()] + [f"vs {run.beside}"] * (model == "personal" and bool(pairs))
    told = any(run.served(site) for site in run.sites)
    rows = []
    for site in run.sites:
        scores = run.evaluation.get(site, {})
        row = [site]
        for model in models:
            score = scores.get(model)
            row.append("n/a" if score and score.not_applicable else dice_text(score.dice if score else None))
            row += [gains.get(site, ABSENT)] * (model == "personal" and bool(pairs))
        served = run.served(site)
        row += [served.words if served else ABSENT] * told
        entries = [each.sites.get(site) for each in run.rounds]
        sent = sum(entry.bytes_up for entry in entries if entry)
        course = [entry.metrics.get("dice_personal") if entry else None for entry in entries]
        words = " ".join(ABSENT if value is None else f"{value:.2f}" for value in course)
        rows.append([*row, bytes_text(sent) if sent else ABSENT, words])
    if len(run.sites) > 1 and models:
        row = ["mean"]
        for model in models:
            row.append(dice_text(mean_dice(run, model)))
            row += [difference_text(beside_difference(run))] * (model == "personal" and bool(pairs))
        rows.append([*row, *[""] * told, "", ""])
    course_of = "freshly trained, by round"
    return _aligned([[*head, *["is served"] * told, "sent", course_of], *rows], width)


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
