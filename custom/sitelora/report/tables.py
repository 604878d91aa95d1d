"""The tables about quality: every model at every site, and every round."""

from __future__ import annotations

import json
import statistics

from sitelora.report.findings import attended, mean_dice
from sitelora.report.html_table import Cell, Column, html_table
from sitelora.report.results import ModelScore, Round, Run, mapping, number
from sitelora.report.style import SHORT, model_style
from sitelora.report.words import (
    ABSENT,
    bytes_text,
    count_text,
    dice_text,
    interval_text,
    listed,
    seconds_text,
)


def site_table(run: Run) -> str:
    """Return Dice of every model at every site, each with its 95 % interval below it."""
    sites = [site for site in run.sites if site in run.evaluation]
    models = [model for model in run.models if mean_dice(run, model) is not None]
    columns = [Column("Site", numeric=False)]
    columns += [Column(SHORT.get(model, model), hint=model_style(model)[2]) for model in models]
    columns += [Column("Cases", hint="training / validation / test")]
    rows = []
    for site in sites:
        scores = [_model_cell(run.evaluation[site].get(model)) for model in models]
        rows.append([Cell(site, run.hospital(site)), *scores, _case_counts(run, site)])
    means = [Cell(dice_text(mean_dice(run, model))) for model in models]
    return html_table(columns, rows, footer=[Cell("Mean"), *means, Cell("")] if len(sites) > 1 else None)


def not_applicable(run: Run) -> list[str]:
    """Return every reason why a model has no score, with the sites that gave it."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for site, scores in run.evaluation.items():
        for model, score in scores.items():
            if score.not_applicable:
                reasons.setdefault((model, score.not_applicable), []).append(site)
    everywhere = len(run.evaluation)
    return [
        f"{SHORT.get(model, model)}: not applicable"
        f"{'' if len(sites) == everywhere else f' at {listed(sites)}'} ({reason})."
        for (model, reason), sites in reasons.items()
    ]


def _case_counts(run: Run, site: str) -> Cell:
    cases = mapping(mapping(mapping(run.facts, "sites"), site), "cases")
    counts = [number(cases.get(split)) for split in ("training", "validation", "test")]
    return Cell(" / ".join(ABSENT if count is None else f"{count:.0f}" for count in counts) if cases else ABSENT)


def _model_cell(score: ModelScore | None) -> Cell:
    if score is None:
        return Cell(ABSENT)
    if score.not_applicable:
        return Cell("n/a", hint=score.not_applicable)
    patients = "" if score.patient_count is None else f"{count_text(score.patient_count, 'patient')}"
    return Cell(dice_text(score.dice), interval_text(score.interval), score.dice, hint=patients)


def round_table(run: Run) -> str:
    """Return what happened in every round, sites summed or averaged."""
    columns = [
        Column("Round", numeric=False),
        Column("Sites"),
        Column("Received", hint="mean validation Dice of the received model"),
        Column("After training", hint="mean validation Dice after local training"),
        Column("To sites"),
        Column("From sites"),
        Column("Time"),
    ]
    noted = any(each.server for each in run.rounds)
    if noted:
        columns.append(Column("Server", numeric=False))
    rows = []
    for each in run.rounds:
        row = [Cell(str(each.number)), _attendance(each)]
        row += [Cell(dice_text(_mean_metric(each, name))) for name in ("dice_received", "dice_personal")]
        row += [Cell(bytes_text(sum(entry.bytes_down for entry in each.sites.values())))]
        row += [Cell(bytes_text(sum(entry.bytes_up for entry in each.sites.values())))]
        row += [Cell(seconds_text(each.seconds))]
        rows.append(row + [Cell(_note(each))] * noted)
    return html_table(columns, rows)


def _attendance(each: Round) -> Cell:
    absent = [f"{site}: {entry.status}" for site, entry in each.sites.items() if entry.status != "ok"]
    return Cell(f"{len(attended(each))} of {len(each.sites)}", ", ".join(absent))


def _mean_metric(each: Round, name: str) -> float | None:
    values = [v for entry in each.sites.values() if (v := entry.metrics.get(name)) is not None]
    return statistics.fmean(values) if values else None


def _note(each: Round) -> str:
    """Return the server's remarks of a round as ``name value`` pairs."""
    parts = []
    for name, value in each.server.items():
        shown = number(value)
        text = f"{shown:.4g}" if shown is not None else value if isinstance(value, str) else json.dumps(value)
        parts.append(text if name == "note" else f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)
