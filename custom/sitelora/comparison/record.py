"""What a run's file keeps of every site: counts, bytes, and every test case's metrics under every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.data.pooled import POOLED, own_name, own_patient
from sitelora.data.site_entries import FILES
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder
from sitelora.disk import file_sha256
from sitelora.evaluation.scores import summarise
from sitelora.networks.tensor_file import file_of
from sitelora.run_result import OK, CaseScore, RunResult
from sitelora.settings import RunSettings
from sitelora.task import Task
from sitelora.typed_json import from_json


def site_record(
    folder: SiteFolder, result: RunResult, scores: Mapping[str, Mapping[str, Any]], task: Task
) -> dict[str, Any]:
    """Return one site's numbers; of a pooled run, those of the site's own cases under their own names.

    Args:
        folder: the site's data. result: of the run. scores: the sites' own evaluations, by site or ``pooled``.
        task: that was learnt.
    """
    site, pooled = folder.name, POOLED in scores
    models: dict[str, Any] = {}
    for kind, block in scores[POOLED if pooled else site].items():
        if "not_applicable" in block:
            models[kind] = dict(block)
            continue
        cases = block["cases"]
        if pooled:
            cases = [
                {**case, "case": own_name(site, case["case"]), "patient": own_patient(site, case["patient"])}
                for case in cases
                if case["patient"].startswith(f"{site}/")
            ]
        models[kind] = model_record(cases, task)
    return {**site_facts(folder, result), "models": models}


def site_facts(folder: SiteFolder, result: RunResult | None) -> dict[str, Any]:
    """Return whose a site is, its cases, the patients of its test cases, and what it sent and received.

    Sent are the seeded values before the first round, and every round's answer.

    Args:
        folder: the site's data. result: of the run, of the sites or of one folder with all their images; None where
            nothing travels.
    """
    site, begin = folder.name, dict[str, int]()
    if result is None:
        sent, received, what = 0, 0, "nothing"
    elif POOLED in result.sites:
        every = [case for split in SPLITS for case in folder.cases(split)]
        sent = sum(Path(case[key]).stat().st_size for case in every for key in FILES if key in case)
        received, what = 0, "images and labels"
    else:
        rounds = [each.sites[site] for each in result.rounds]
        begin = {"begin_bytes_up": result.sites[site].begin_bytes_up}
        sent = begin["begin_bytes_up"] + sum(entry.bytes_up for entry in rounds)
        received, what = sum(entry.bytes_down for entry in rounds), "shared tensors"
    return {
        "hospital": folder.hospital,
        "cases": folder.case_counts(),
        "patients": {folder.case_names[case["image"]]: str(case["patient"]) for case in folder.cases("test")},
        **begin,
        "bytes_up": sent,
        "bytes_down": received,
        "sent": what,
    }


def elsewhere_record(blocks: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return the scores of one site's personal model on other sites' test cases, by site."""
    return {site: model_record(block["cases"], task) for site, block in blocks.items()}


def require_test_cases(folders: Sequence[SiteFolder]) -> None:
    """Refuse a comparison of sites of which one has nothing to compare by.

    Raises:
        SiteDataError: a site has no test cases.
    """
    untested = [folder.name for folder in folders if not folder.cases("test")]
    if untested:
        raise SiteDataError(
            f"no test data at site {', '.join(untested)}: a comparison scores the test cases of every site; list some "
            "in dataset.json, or compare without the site"
        )


def left_out_record(block: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return the score of a model on the cases of a site that never took part, or why there is no such model."""
    return dict(block) if "not_applicable" in block else model_record(block["cases"], task)


def model_record(cases: list[dict[str, Any]], task: Task) -> dict[str, Any]:
    """Return a model's score with its interval over patients, set scores, and every case's metrics by label."""
    scores = sorted((from_json(CaseScore, case) for case in cases), key=lambda score: score.case)
    summary = summarise(scores, task.primary, score_set=task.score_set)
    metrics: dict[str, dict[str, list[float | None]]] = {}
    for label in sorted(summary["labels"]):
        for metric in summary["labels"][label]:
            values = [score.metrics[label].get(metric) for score in scores]
            metrics.setdefault(label, {})[metric] = [None if v is None else round(float(v), 5) for v in values]
    return {
        "score": summary["score"],
        "score_ci95": summary["score_ci95"],
        "patient_count": summary["patient_count"],
        "case_count": summary["case_count"],
        "labels": summary["labels"],
        **{key: summary[key] for key in ("set_scores", "set_ci95") if key in summary},
        "cases": [score.case for score in scores],
        "metrics": metrics,
    }


def validation_score(result: RunResult) -> dict[str, list[float | None]]:
    """Return the served model's validation score after every round and at the end, by site or ``pooled``."""
    found: dict[str, list[float | None]] = {}
    for site, evaluation in result.evaluation.items():
        course = [each.sites[site].metrics.get("score_served") for each in result.rounds]
        course += [served.validation if (served := evaluation["personal"].served) else None]
        found[site] = [None if value is None else round(value, 5) for value in course]
    return found


def require_whole(result: RunResult, rounds: int, name: str) -> None:
    """Refuse a run that lacks a site or a round.

    Args:
        rounds: that it was to have. name: of its file, for the message.

    Raises:
        RuntimeError: says what is missing.
    """
    absent = sorted({site for each in result.rounds for site, entry in each.sites.items() if entry.status != OK})
    if absent or result.rounds_done != rounds:
        raise RuntimeError(
            f"{name}: found {result.rounds_done} rounds, without {absent} in some of them, expected {rounds} with "
            f"every site; nothing is written. Warnings of the run: {list(result.warnings)}"
        )


def steps(result: RunResult) -> dict[str, int]:
    """Return the optimiser steps of every site; a method of several passes (Ditto) shows in them."""
    found: dict[str, int] = {}
    for each in result.rounds:
        for site, entry in each.sites.items():
            found[site] = found.get(site, 0) + int(entry.metrics["steps"] or 0)
    return found


def base_record(settings: RunSettings) -> dict[str, Any]:
    """Return a base's architecture, file name and file hash; the run's own hash also covers what the seed draws."""
    parser = settings.parser()
    base = parser["base"]
    if base is None:
        return {"arch": parser["arch"], "name": "random values", "file_sha256": None}
    file = file_of(base, parser["arch"])
    return {"arch": parser["arch"], "name": file.name, "file_sha256": file_sha256(file)}
