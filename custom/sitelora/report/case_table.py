"""The table of every case, worst first: Dice of every model, HD95 and NSD of the one the page is about."""

from __future__ import annotations

from collections.abc import Mapping

from sitelora.report.findings import main_model
from sitelora.report.format_values import dice_text, distance_text
from sitelora.report.html_table import Cell, Column, html_table
from sitelora.report.results import Run
from sitelora.report.style import model_style, short_name

Metrics = Mapping[str, float | None]


def case_table(run: Run) -> tuple[str, int]:
    """Return the sortable table and its number of rows (one a case and label); empty without any case."""
    rows = gather(run)
    if not rows:
        return "", 0
    main = main_model(run)
    found = [model for model in run.models if any(model in scores for scores in rows.values())]
    models = sorted(found, key=lambda model: model != main)  # the one the page is about comes first
    several = len({label for _, _, label in rows}) > 1
    distance, unit = _distance(rows)
    columns = [Column("Case", numeric=False), Column("Site", numeric=False)]
    columns += [Column("Label", numeric=False)] * several
    for model in models:
        columns.append(Column(f"Dice {short_name(model).lower()}", hint=model_style(model)[2]))
        if model == main:
            hint = f"95 % of both borders of the {main} model lie closer"
            columns.append(Column(f"HD95 ({unit})", hint=hint))
            columns.append(Column("NSD", hint="share of both borders within the tolerance"))
    lines = []
    for (site, case, label), scores in rows.items():
        cells = [Cell(case), Cell(site)] + [Cell(label)] * several
        for model in models:
            metrics = scores.get(model, {})
            value, far, near = (metrics.get(name) for name in ("dice", distance, "nsd"))
            cells.append(Cell(dice_text(value), sort=value))
            if model == main:
                cells += [Cell(distance_text(far), sort=far), Cell(dice_text(near), sort=near)]
        lines.append(cells)
    place = 2 + several
    lines.sort(key=lambda cells: (2.0 if cells[place].sort is None else cells[place].sort, cells[0].text))
    return html_table(columns, lines, sortable=True), len(lines)


def gather(run: Run) -> dict[tuple[str, str, str], dict[str, Metrics]]:
    """Return (site, case, label) to model to metrics, in the order of the sites and their files."""
    rows: dict[tuple[str, str, str], dict[str, Metrics]] = {}
    for site, models in run.evaluation.items():
        for model, score in models.items():
            for case in score.cases:
                for label, metrics in case.metrics.items():
                    rows.setdefault((site, case.case, label), {})[model] = metrics
    return rows


def _distance(rows: Mapping[tuple[str, str, str], Mapping[str, Metrics]]) -> tuple[str, str]:
    """Return the name of the distance that the cases hold, in mm or in pixels, and its unit."""
    names = {name for scores in rows.values() for metrics in scores.values() for name in metrics}
    return ("hd95_px", "pixels") if "hd95_px" in names and "hd95_mm" not in names else ("hd95_mm", "mm")
