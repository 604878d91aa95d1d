"""The tables about quality: every model at every site, every round, every case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from sitelora.metric import Metric
from sitelora.report.compare_two_runs import beside_difference, beside_pairs, difference_text
from sitelora.report.costs import FULL, cost_of, full_model_bytes
from sitelora.report.findings import attended, main_model, mean_text, scored_models
from sitelora.report.format_values import (
    ABSENT,
    bytes_text,
    count_text,
    interval_text,
    listed,
    percent_text,
    seconds_text,
)
from sitelora.report.results import Run, mean
from sitelora.report.style import model_style
from sitelora.report.table import Cell, Column, Table, table_of
from sitelora.run_result import OK, Round

REGULARIZER = "regularizer_share"
"""In a site's metrics: the mean norm of the regularizers' gradient in units of the task's, as it was added."""

ByCase = dict[tuple[str, str, str], dict[str, Mapping[str, float | None]]]
"""(site, case, label) to model to metrics."""


def site_columns(run: Run) -> list[Column]:
    """Return the score of every model, each with its 95 % interval, and which model a site is served; rows are sites.

    With a run beside, the difference of the two personal models stands after them.
    """
    columns = [Column("Site", lambda site: Cell(site, run.hospital(site)), "Mean", numeric=False)]
    for model in scored_models(run):
        look, mean = model_style(model), mean_text(run, model)
        word = model if model == run.beside else look.short.lower()
        columns.append(Column(look.short, partial(_score, run, model), mean, look.words, terminal=word))
        if model == "personal" and beside_pairs(run):
            hint, mean = f"personal minus {run.beside} run", difference_text(run, beside_difference(run))
            columns.append(Column("Difference", partial(_gain, run), mean, hint, terminal=f"vs {run.beside}"))
    if any(run.served(site) for site in run.sites):
        hint = "which model the site is served, and from which round"
        columns.append(Column("Served", partial(_served, run), "", hint, False, "is served"))
    return columns


def site_table(run: Run) -> Table | None:
    """Return every model at every site that has an evaluation; ``None`` without any."""
    sites = [site for site in run.sites if site in run.evaluation]
    cases = Column("Cases", partial(_case_counts, run), hint="training / validation / test")
    return table_of([*site_columns(run), cases], sites, footer=len(sites) > 1) if sites else None


def not_applicable(run: Run) -> list[str]:
    """Return every reason why a model has no score, with the sites that gave it."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for site, scores in run.evaluation.items():
        for model, score in scores.items():
            if score.not_applicable:
                reasons.setdefault((model, score.not_applicable), []).append(site)
    everywhere = len(run.evaluation)
    return [
        f"{model_style(model).short}: not applicable{'' if len(sites) == everywhere else f' at {listed(sites)}'} "
        f"({reason})."
        for (model, reason), sites in reasons.items()
    ]


def _score(run: Run, model: str, site: str) -> Cell:
    score = run.evaluation.get(site, {}).get(model)
    if score is None:
        return Cell(ABSENT)
    if score.not_applicable:
        return Cell("n/a", hint=score.not_applicable)
    patients = "" if score.patient_count is None else count_text(score.patient_count, "patient")
    return Cell(run.primary.text(score.score), interval_text(score.interval), score.score, patients)


def _gain(run: Run, site: str) -> Cell:
    if site not in (pairs := beside_pairs(run)):
        return Cell(ABSENT)
    one, two = pairs[site]
    return Cell(difference_text(run, one - two), "worse" if run.primary.better(two, one) else "")


def _served(run: Run, site: str) -> Cell:
    served = run.served(site)
    if served is None:
        return Cell(ABSENT)
    judged = "" if served.validation is None else f"validation {run.primary.text(served.validation)}"
    return Cell(served.words, judged, hint=served.why)


def _case_counts(run: Run, site: str) -> str:
    cases = run.cases(site)
    return (
        " / ".join(str(cases.get(split, ABSENT)) for split in ("training", "validation", "test")) if cases else ABSENT
    )


def round_table(run: Run) -> Table | None:
    """Return what happened in every round, sites summed or averaged; ``None`` without any."""
    hint = f"mean validation {run.primary.title} of the received and of the freshly trained model"
    columns = [
        Column("Round", lambda each: str(each.counted), numeric=False),
        Column("Sites", _attendance),
        Column(f"{run.primary.title} received → trained", partial(_mean_course, run.primary), hint=hint),
    ]
    if any(_mean(each, REGULARIZER) is not None for each in run.rounds):
        hint = "mean norm of its gradient, in units of the task's"
        columns.append(Column("Regularizer", lambda each: percent_text(_mean(each, REGULARIZER)), hint=hint))
    columns += [
        Column("To sites", lambda each: bytes_text(cost_of(run, [each]).bytes_down)),
        Column("From sites", lambda each: bytes_text(cost_of(run, [each]).bytes_up)),
    ]
    if full_model_bytes(run) is not None:
        columns.append(Column("Full fine-tuning", lambda each: bytes_text(cost_of(run, [each]).full), hint=FULL))
    columns.append(Column("Time", lambda each: seconds_text(each.seconds)))
    if any(each.server for each in run.rounds):
        columns.append(Column("Server", _remarks, numeric=False))
    return table_of(columns, run.rounds) if run.rounds else None


def round_site_table(run: Run) -> Table | None:
    """Return the validation score of every site in every round, received and freshly trained; ``None`` without any."""
    sites = [site for site in run.sites if any(_course(run.primary, site, each).text != ABSENT for each in run.rounds)]
    by_site = [Column(site, partial(_course, run.primary, site), hint=run.hospital(site)) for site in sites]
    round_number = Column("Round", lambda each: str(each.counted), numeric=False)
    return table_of([round_number, *by_site], run.rounds) if sites else None


def _attendance(each: Round) -> Cell:
    absent = [f"{site}: {entry.status}" for site, entry in each.sites.items() if entry.status != OK]
    return Cell(f"{len(attended(each))} of {len(each.sites)}", ", ".join(absent))


def _mean_course(score: Metric, each: Round) -> Cell:
    served = _mean(each, "score_served")
    means = [score.text(_mean(each, name)) for name in ("score_received", "score_personal")]
    return Cell(" → ".join(means), "" if served is None else f"served {score.text(served)}")


def _course(score: Metric, site: str, each: Round) -> Cell:
    """Return a site's validation score in a round, and below it the served model's, or why there is no update."""
    entry = each.sites.get(site)
    if entry is None:
        return Cell(ABSENT)
    values, served = [entry.metrics.get(name) for name in ("score_received", "score_personal")], ""
    if entry.metrics.get("score_served") is not None:
        served = f"served {score.text(entry.metrics['score_served'])}"
    told = any(value is not None for value in values)
    return Cell(" → ".join(map(score.text, values)) if told else ABSENT, served if entry.status == OK else entry.status)


def _mean(each: Round, name: str) -> float | None:
    return mean(entry.metrics.get(name) for entry in each.sites.values())


def _remarks(each: Round) -> str:
    """Return what the server told of a round as ``name value`` pairs."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in each.server.items())


def case_table(run: Run) -> Table | None:
    """Return one row a case and label, worst first, the model that the page is about before the others.

    The primary score of every model, the others of that one; ``None`` without any case.
    """
    rows = scores_by_case(run)
    if not rows:
        return None
    main = main_model(run)
    found = [model for model in run.models if any(model in scores for scores in rows.values())]
    columns = [Column("Case", lambda key: key[1], numeric=False), Column("Site", lambda key: key[0], numeric=False)]
    if len({label for _, _, label in rows}) > 1:
        columns.append(Column("Label", lambda key: key[2], numeric=False))
    first = len(columns)
    for model in sorted(found, key=lambda model: model != main):
        look = model_style(model)
        asked = [(run.primary, f"{run.primary.heading} {look.short.lower()}", look.words)]
        if model == main:
            asked += [(each, each.heading, f"{each.help} Of the {main} model.") for each in further_metrics(run)]
        columns += [Column(head, partial(_metric, rows, model, each), hint=hint) for each, head, hint in asked]
    table = table_of(columns, rows)
    worst_first = sorted(table.rows, key=lambda row: (_goodness(run.primary, row[first].sort), row[0].text))
    return Table(columns=columns, rows=worst_first)


def further_metrics(run: Run) -> list[Metric]:
    """Return the scores beside the primary one that some case has."""
    told = {name for scores in scores_by_case(run).values() for metrics in scores.values() for name in metrics}
    return [metric for metric in run.metrics if metric.name in told and metric != run.primary]


def _goodness(score: Metric, value: float | None) -> float:
    return math.inf if value is None else score.goodness(value)


def _metric(rows: ByCase, model: str, metric: Metric, key: tuple[str, str, str]) -> Cell:
    value = rows[key].get(model, {}).get(metric.name)
    if metric.balanced and value in (0.0, 1.0):
        return Cell("right" if value else "wrong", sort=value)
    return Cell(metric.text(value), sort=value)


def scores_by_case(run: Run) -> ByCase:
    """Return the metrics of every model by label that a case is judged by, in the order of sites and their files."""
    rows: ByCase = {}
    for site, models in run.evaluation.items():
        for model, score in models.items():
            for case in score.cases:
                for label, metrics in case.metrics.items():
                    if run.primary.balanced and metrics.get(run.primary.name) is None:
                        continue  # of a case of one class, the others
                    rows.setdefault((site, case.case, label), {})[model] = metrics
    return rows
