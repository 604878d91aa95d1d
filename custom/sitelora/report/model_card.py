"""The model card of one model of a run, in Markdown: after Mitchell et al., "Model cards for model reporting", 2019."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sitelora.report.card_facts import card_facts
from sitelora.report.results import Run
from sitelora.report.table import Table


def model_card(run: Run, made: Mapping[str, Any], *, site: str, kind: str, sha256: str, name: str) -> str:
    """Return the card.

    Args:
        run: what the run left, as far as it is at hand. made: what the model's file says of itself.
        site: whose model it is. kind: "personal", "global" or "unseen". sha256: of the file. name: of the bundle.
    """
    templates = Environment(
        loader=PackageLoader("sitelora.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["cell"] = _cell
    return templates.get_template("model_card.md.j2").render(
        card_facts(run, made, site, kind, sha256, name), row=_row, rows=_rows
    )


def _rows(table: Table) -> list[Sequence[str]]:
    """Return the rows of a table, with what stands small in a cell behind a comma, and its last row."""
    rows: list[Sequence[str]] = []
    for row in table.rows:
        rows.append([", ".join(part for part in (cell.text, cell.small) if part) for cell in row])
    return [*rows, [cell.text for cell in table.footer]] if table.footer else rows


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: object) -> str:
    """Return a text that ends no cell and begins no markup."""
    plain = " ".join(str(text).split())
    for sign in "\\|<>[]*_`":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
