"""The tables about quality: every model at every site, and every round."""

from __future__ import annotations

import statistics

from sitelora.report.compare_two_runs import beside_difference, beside_pairs, difference_text
from sitelora.report.costs import cost_of, full_model_bytes
from sitelora.report.findings import attended, mean_dice
from sitelora.report.format_values import (
    ABSENT,
    bytes_text,
    count_text,
    dice_text,
    interval_text,
    listed,
    percent_text,
    seconds_text,
)
from sitelora.report.html_table import Cell, Column, html_table
from sitelora.report.results import Run
from sitelora.report.style import model_style, short_name
from sitelora.run_result import OK, ModelScore, Round

REGULARIZER = "regularizer_share"
"""In a site's metrics: the mean norm of the regularizers' gradient in units of the task's, as it was added."""


def site_table(run: Run) -> str:
    """Return Dice of every model at every site, each with its 95 % interval below it.

    With a run beside, the difference of the two personal models stands after them.
    """
    sites = [site for site in run.sites if site in run.evaluation]
    models = [model for model in run.models if mean_dice(run, model) is not None]
    pairs = beside_pairs(run)
    columns = [Column("Site", numeric=False)]
    for model in models:
        columns.append(Column(short_name(model), hint=model_style(model)[2]))
        if model == "personal" and pairs:
            columns.append(Column("Difference", hint=f"personal minus {run.beside} run"))
    told = any(run.served(site) for site in sites)
    columns += [Column("Served", numeric=False, hint="which model the site is served, and from which round")] * told
    columns += [Column("Cases", hint="training / validation / test")]
    rows = []
    for site in sites:
        row = [Cell(site, run.hospital(site))]
        for model in models:
            row.append(_model_cell(run.evaluation[site].get(model)))
            if model == "personal" and pairs:
                gain = pairs[site][0] - pairs[site][1] if site in pairs else None
                row.append(Cell(difference_text(gain) or ABSENT, "below" if gain is not None and gain < 0 else ""))
        rows.append([*row, *[_served_cell(run, site)] * told, _case_counts(run, site)])
    means = [Cell("Mean")]
    for model in models:
        means.append(Cell(dice_text(mean_dice(run, model))))
        if model == "personal" and pairs:
            means.append(Cell(difference_text(beside_difference(run))))
    return html_table(columns, rows, footer=[*means, *[Cell("")] * told, Cell("")] if len(sites) > 1 else None)


def not_applicable(run: Run) -> list[str]:
    """Return every reason why a model has no score, with the sites that gave it."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for site, scores in run.evaluation.items():
        for model, score in scores.items():
            if score.not_applicable:
                reasons.setdefault((model, score.not_applicable), []).append(site)
    everywhere = len(run.evaluation)
    return [
        f"{short_name(model)}: not applicable{'' if len(sites) == everywhere else f' at {listed(sites)}'} ({reason})."
        for (model, reason), sites in reasons.items()
    ]


def _case_counts(run: Run, site: str) -> Cell:
    cases = run.cases(site)
    counts = [str(cases.get(split, ABSENT)) for split in ("training", "validation", "test")]
    return Cell(" / ".join(counts) if cases else ABSENT)


def _served_cell(run: Run, site: str) -> Cell:
    served = run.served(site)
    if served is None:
        return Cell(ABSENT)
    return Cell(
        served.words, "" if served.validation is None else f"validation {dice_text(served.validation)}", hint=served.why
    )


def _model_cell(score: ModelScore | None) -> Cell:
    if score is None:
        return Cell(ABSENT)
    if score.not_applicable:
        return Cell("n/a", hint=score.not_applicable)
    patients = "" if score.patient_count is None else f"{count_text(score.patient_count, 'patient')}"
    return Cell(dice_text(score.dice), interval_text(score.interval), score.dice, hint=patients)


def round_table(run: Run) -> str:
    """Return what happened in every round, sites summed or averaged."""
    regularized = any(_mean_metric(each, REGULARIZER) is not None for each in run.rounds)
    columns = [
        Column("Round", numeric=False),
        Column("Sites"),
        Column("Dice received → trained", hint="mean validation Dice of the received and of the freshly trained model"),
        *[Column("Regularizer", hint="mean norm of its gradient, in units of the task's")] * regularized,
        Column("To sites"),
        Column("From sites"),
    ]
    against = full_model_bytes(run) is not None
    if against:
        columns.append(Column("Full fine-tuning", hint="both directions, every value of the model in every message"))
    columns.append(Column("Time"))
    noted = any(each.server for each in run.rounds)
    if noted:
        columns.append(Column("Server", numeric=False))
    rows = []
    for each in run.rounds:
        cost = cost_of(run, [each])
        row = [Cell(str(each.number)), _attendance(each)]
        dice = [dice_text(_mean_metric(each, name)) for name in ("dice_received", "dice_personal")]
        served = _mean_metric(each, "dice_served")
        row += [Cell(" → ".join(dice), "" if served is None else f"served {dice_text(served)}")]
        row += [Cell(percent_text(_mean_metric(each, REGULARIZER)))] * regularized
        row += [Cell(bytes_text(cost.bytes_down)), Cell(bytes_text(cost.bytes_up))]
        row += [Cell(bytes_text(cost.full))] * against
        row += [Cell(seconds_text(each.seconds))]
        rows.append(row + [Cell(_note(each))] * noted)
    return html_table(columns, rows)


def round_site_table(run: Run) -> str:
    """Return the validation Dice of every site in every round, received and freshly trained; empty without any."""
    names = ("dice_received", "dice_personal")
    sites = [s for s in run.sites if any(_metric(each, s, name) is not None for each in run.rounds for name in names)]
    if not sites:
        return ""
    columns = [Column("Round", numeric=False), *(Column(site, hint=run.hospital(site)) for site in sites)]
    rows = []
    for each in run.rounds:
        row = [Cell(str(each.number))]
        for site in sites:
            values = [_metric(each, site, name) for name in names]
            entry = each.sites.get(site)
            below = "" if entry is None or entry.status == OK else entry.status
            if (served := _metric(each, site, "dice_served")) is not None and not below:
                below = f"served {dice_text(served)}"
            row.append(
                Cell(" → ".join(map(dice_text, values)) if any(v is not None for v in values) else ABSENT, below)
            )
        rows.append(row)
    return html_table(columns, rows)


def _attendance(each: Round) -> Cell:
    absent = [f"{site}: {entry.status}" for site, entry in each.sites.items() if entry.status != OK]
    return Cell(f"{len(attended(each))} of {len(each.sites)}", ", ".join(absent))


def _mean_metric(each: Round, name: str) -> float | None:
    values = [v for entry in each.sites.values() if (v := entry.metrics.get(name)) is not None]
    return statistics.fmean(values) if values else None


def _metric(each: Round, site: str, name: str) -> float | None:
    entry = each.sites.get(site)
    return entry.metrics.get(name) if entry else None


def _note(each: Round) -> str:
    """Return the server's remarks of a round as ``name value`` pairs."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in each.server.items())
