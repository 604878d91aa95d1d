"""The pictures that a site keeps: the task's cases first, then what counts in each, where somebody draws that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from class_run import site_folder
from sitelora.evaluation.scores import summarise
from sitelora.evaluation.site_pictures import draw_cases
from sitelora.run_result import CaseScore
from sitelora.tasks.classification import TASK

LABELS = {0: "normal", 1: "tuberculosis"}


def test_mistakes_come_first_and_what_counts_in_them_after(tmp_path: Path) -> None:
    truth = [0, 1, 1, 0]
    folder = site_folder(tmp_path / "site", truth, LABELS, np.random.default_rng(0))
    kept, out = tmp_path / "kept", tmp_path / "overlays"
    kept.mkdir()
    scores = []
    for case, value, logit in zip(folder.cases("test"), truth, (2.0, -1.0, -3.0, -2.0), strict=True):
        answer, name = TASK.decide(np.array([0.0, logit]), {}), folder.case_names[case["image"]]
        TASK.keep(answer, value, kept, name)
        metrics = TASK.score_case(answer, value, LABELS, primary_only=False)
        scores.append(CaseScore(case=name, patient=name, metrics=metrics))
    asked: list[str] = []

    def explained(image: Path, file: Path, title: str) -> None:
        asked.append(title)
        file.write_bytes(image.read_bytes())

    scored = summarise(scores, TASK.primary)
    drawn = draw_cases(json.loads(json.dumps(scored)), TASK, folder, kept, out=out, explained=explained)
    assert [(each["which"], each["case"]) for each in drawn] == [
        ("mistake 1", "P002"),
        ("mistake 2", "P000"),
        ("mistake 3", "P001"),
        ("mistake 1, what counts", "P002"),
        ("mistake 2, what counts", "P000"),
        ("mistake 3, what counts", "P001"),
    ]
    assert asked == ["P002", "P000", "P001"]
    assert all((tmp_path / each["file"]).is_file() and each["score"] is None for each in drawn)
    assert len(draw_cases(scored, TASK, folder, kept, out=out)) == 3
