"""Scores on their way out of a site: flat columns of numbers without names, and back to an evaluation at the server.

Names of cases and patients stay in the site's own files. Cases are numbered in the order of the site's (patient, case)
names and patients likewise, so the numbers of all models agree and intervals over patients come out the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sitelora.evaluation.scores import summarise
from sitelora.run_result import CaseScore
from sitelora.task import CaseMetrics, Task


def to_columns(results: Mapping[str, Any], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return an evaluation as ``columns``, ``patients``, ``scores`` and ``not_applicable``.

    Args:
        results: by model kind, what ``evaluate_cases`` gave, or ``{"not_applicable": reason}``.
        labels: label value to name.

    Returns:
        ``columns``: ``<kind>.<label value>.<metric>``. ``patients``: the number of every case's patient, from 1.
        ``scores``: the columns one after another, one number or None a case. ``decisions``: how a model's answers
        became decisions, in words, and ``served``: which model the personal one is; both where that is told.

    Raises:
        ValueError: a model that was scored on other cases than the others.
    """
    scored = {kind: _by_name(scores["cases"]) for kind, scores in results.items() if "cases" in scores}
    names = sorted({name for cases in scored.values() for name in cases})
    for kind, cases in scored.items():
        if cases.keys() != set(names):
            raise ValueError(f"the {kind} model was scored on {len(cases)} of {len(names)} cases; expected all of them")
    numbers = {patient: number for number, patient in enumerate(sorted({name[0] for name in names}), start=1)}
    values = {name: value for value, name in labels.items()}
    columns: list[str] = []
    scores: list[float | None] = []
    for kind, cases in scored.items():
        first = cases[names[0]] if names else {}
        for label, metric in [(label, metric) for label, metrics in first.items() for metric in metrics]:
            columns.append(f"{kind}.{values[label]}.{metric}")
            scores += [cases[name].get(label, {}).get(metric) for name in names]
    decisions = {kind: result["decision"]["why"] for kind, result in results.items() if "decision" in result}
    return {
        "columns": columns,
        "patients": [numbers[name[0]] for name in names],
        "scores": scores,
        "not_applicable": {k: r["not_applicable"] for k, r in results.items() if "not_applicable" in r},
        **({"decisions": decisions} if decisions else {}),
        **{key: results["personal"][key] for key in ("served",) if key in results.get("personal", {})},
    }


def from_columns(report: Mapping[str, Any], labels: Mapping[str, str], task: Task) -> dict[str, Any]:
    """Return the evaluation that ``to_columns`` was given, with numbers in the place of names.

    Args:
        report: a report of that form, checked. labels: label value (as text) to name. task: of the run.

    Raises:
        ValueError: columns and numbers that do not fit each other, a label that there is not, or numbers that no case
            of this task has.
    """
    patients, columns, scores = report["patients"], report["columns"], report["scores"]
    if len(scores) != len(columns) * len(patients) or len(set(columns)) != len(columns):
        raise ValueError(
            f"found {len(scores)} scores in {len(columns)} columns of {len(patients)} cases; expected one a case and "
            "column, every column once"
        )
    metrics: dict[str, list[CaseMetrics]] = {}
    for number, column in enumerate(columns):
        kind, value, metric = column.split(".")
        if value not in labels:
            raise ValueError(f"found the column {column}; expected one of the labels {', '.join(sorted(labels))}")
        cases = metrics.setdefault(kind, [{} for _ in patients])
        for case, score in zip(cases, scores[number * len(patients) :], strict=False):
            case.setdefault(labels[value], {})[metric] = score
    names = [labels[value] for value in sorted(labels, key=int)]  # in whichever order columns come: the second counts
    metrics = {kind: [{n: case[n] for n in names if n in case} for case in cases] for kind, cases in metrics.items()}
    for kind, cases in metrics.items():
        for number, case in enumerate(cases, start=1):
            if why := _out_of_bounds(case, task) or task.wrong(case):
                raise ValueError(f"case {number} of the {kind} model: found {why}")
    evaluation = {kind: _summary(cases, patients, task) for kind, cases in metrics.items()}
    for kind, why in report.get("decisions", {}).items():
        if "cases" in evaluation.get(kind, {}):
            evaluation[kind]["decision"] = {"why": why}
    evaluation.update({kind: {"not_applicable": reason} for kind, reason in report["not_applicable"].items()})
    if "personal" in evaluation and "served" in report:
        evaluation["personal"]["served"] = report["served"]
    return evaluation


def _out_of_bounds(case: CaseMetrics, task: Task) -> str:
    """Return which number of a case no metric of its name can be; empty where all can."""
    known = {metric.name: metric for metric in (*task.metrics, *task.values)}
    for label, metrics in case.items():
        for name, value in metrics.items():
            if name not in known:
                return f"{name} of {label}, expected one of {', '.join(known)}"
            metric = known[name]
            if value is not None and not metric.can_be(value):
                return f"{metric.title} {value:g} of {label}, expected {metric.lowest} to {metric.highest}"
    return ""


def _by_name(cases: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    """Return the metrics by patient, case and, where two cases have one name, which of them it is."""
    found: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for case in cases:
        patient, name = str(case["patient"]), str(case["case"])
        found[patient, name, counts[patient, name]] = case["metrics"]
        counts[patient, name] += 1
    return found


def _summary(
    cases: Sequence[Mapping[str, Mapping[str, float | None]]], patients: Sequence[int], task: Task
) -> dict[str, Any]:
    """Return what ``summarise`` gives: numbers are padded while it sorts them, so that 10 comes after 9."""
    scores = [
        CaseScore(case=f"{number:09d}", patient=f"{patient:09d}", metrics=metrics)
        for number, (patient, metrics) in enumerate(zip(patients, cases, strict=True), start=1)
    ]
    summary = summarise(scores, task.primary, score_set=task.score_set)
    numbered = [
        {**case, "case": f"case {int(case['case'])}", "patient": f"patient {int(case['patient'])}"}
        for case in summary["cases"]
    ]
    return {**summary, "cases": numbered}
