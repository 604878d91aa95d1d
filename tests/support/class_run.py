"""A synthetic run of a classification: three sites of drawn pictures, as the server and the sites write it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.anonymise_scores import from_columns, to_columns
from sitelora.evaluation.scores import summarise
from sitelora.evaluation.site_pictures import draw_cases
from sitelora.run_result import CaseScore
from sitelora.tasks.classification import TASK
from sitelora.typed_json import to_json

SKILL = {"base": 0.3, "personal": 2.2, "unseen": 1.2}
NAMES = {2: ("normal", "tuberculosis"), 4: ("basophil", "eosinophil", "monocyte", "neutrophil")}
HOSPITALS = {"site-1": "Montgomery County", "site-2": "Shenzhen No. 3", "site-3": "phantom clinic"}


def make_class_run(
    folder: Path,
    *,
    classes: int = 2,
    cases: int = 60,
    absent: Sequence[int] = (),
    seed: int = 0,
    sites: Sequence[str] = tuple(HOSPITALS),
    skill: Mapping[str, float] = SKILL,
) -> dict[str, Any]:
    """Write ``server/result.json`` and every site's ``evaluation`` and return the former.

    Args:
        folder: of the run. classes: how many. cases: of each site. absent: classes that the last site has none of.
        sites: their names. skill: of every model.
    """
    rng = np.random.default_rng(seed)
    labels = {value: NAMES[classes][value] for value in range(classes)}
    scoring = to_json(TASK.scoring)
    evaluation = {}
    for site in sites:
        there = [value for value in labels if site != sites[-1] or value not in absent]
        truth = [int(rng.choice(there)) for _ in range(cases)]
        data = site_folder(folder.parent / "data" / site, truth, labels, rng)
        own = folder / site / "evaluation"
        own.mkdir(parents=True)
        results: dict[str, Any] = {"global": {"not_applicable": "every site keeps its head to itself"}}
        for model, better in skill.items():
            results[model] = scored(data, truth, better, rng, fitted=model != "unseen", keep=own / model)
        drawn = draw_cases(results["personal"], TASK, data, own / "personal", out=own / "overlays")
        content = {**scoring, **results, "overlays": drawn}
        (own / "evaluation.json").write_text(json.dumps(content), encoding="utf-8")
        told = json.loads(json.dumps(to_columns(results, labels)))
        evaluation[site] = from_columns(told, {str(value): name for value, name in labels.items()}, TASK)
    result = {
        "format": 2,
        **scoring,
        "completed": True,
        "federation": "fedopal_tuberculosis",
        "uid": "20261126-221502-6f3a",
        "method": "fedopal",
        "bundle": "fedopal_classification",
        "dataset": "tuberculosis",
        "rounds_planned": 1,
        "rounds_done": 1,
        "sites": {
            site: {
                "hospital": HOSPITALS.get(site, site),
                "labels": {str(value): name for value, name in labels.items()},
                "cases": {"training": 80, "validation": 20, "test": cases},
            }
            for site in sites
        },
        "rounds": [{"round": 0, "seconds": 9.0, "sites": {site: one_round() for site in sites}}],
        "evaluation": evaluation,
    }
    (folder / "server").mkdir(parents=True, exist_ok=True)
    (folder / "server" / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return result


def one_round() -> dict[str, Any]:
    metrics = {"loss": 0.4, "score_received": 0.61, "score_personal": 0.82, "score_served": 0.82}
    return {"status": "ok", "cases": 80, "bytes_up": 24_000, "bytes_down": 24_000, "seconds": 8.0, "metrics": metrics}


def scored(
    data: SiteFolder, truth: Sequence[int], skill: float, rng: np.random.Generator, *, fitted: bool, keep: Path
) -> dict[str, Any]:
    """Score logits that are the surer and the better the more skill there is; they are twice as sure as they may be."""
    keep.mkdir()
    logits = 2.0 * (skill * np.eye(len(data.labels))[list(truth)] + rng.normal(0, 1, (len(truth), len(data.labels))))
    validation = 2.0 * (skill * np.eye(len(data.labels))[list(truth)] + rng.normal(0, 1, logits.shape))
    assert TASK.fit_decision is not None
    decision = TASK.fit_decision(list(zip(validation, truth, strict=True)), data.labels) if fitted else None
    scores = []
    for case, row, value in zip(data.cases("test"), logits, truth, strict=True):
        answer, name = TASK.decide(row, decision or {}), data.case_names[case["image"]]
        metrics = TASK.score_case(answer, value, data.labels, primary_only=False)
        scores.append(CaseScore(case=name, patient=str(case["patient"]), metrics=metrics))
        TASK.keep(answer, value, keep, name)
    told = {} if decision is None else {"decision": decision}
    return {**summarise(scores, TASK.primary, score_set=TASK.score_set), **told}


def site_folder(folder: Path, truth: Sequence[int], labels: dict[int, str], rng: np.random.Generator) -> SiteFolder:
    """Write a folder whose pictures are discs, the larger the higher their class."""
    (folder / "images").mkdir(parents=True)
    listed = []
    for number, value in enumerate(truth):
        rows, columns = np.mgrid[:64, :64] - 32
        disc = np.hypot(rows, columns) < 10 + 4 * value
        picture = np.clip(90 * disc + 60 + rng.normal(0, 12, disc.shape), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"P{number:03d}.png")
        listed.append({"image": f"images/P{number:03d}.png", "class": value, "patient": f"P{number:03d}"})
    content = {"labels": {str(value): name for value, name in labels.items()}, "test": listed}
    (folder / "dataset.json").write_text(json.dumps({"training": [], "validation": [], **content}), encoding="utf-8")
    return SiteFolder.read(folder)
