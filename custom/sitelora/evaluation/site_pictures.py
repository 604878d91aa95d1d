"""What a site keeps to look at of its evaluation: the pictures of its best, median and worst case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.data.site_folder import SiteFolder
from sitelora.metric import Metric
from sitelora.run_result import CaseScore
from sitelora.task import Task
from sitelora.typed_json import from_json


def draw_cases(
    scored: Mapping[str, Any], task: Task, folder: SiteFolder, predictions: Path, *, out: Path, model: str = "personal"
) -> list[dict[str, Any]]:
    """Draw the best, the median and the worst test case of one model; the pictures stay at the site.

    Args:
        scored: what ``evaluate_cases`` gave for the model.
        task: of the bundle. folder: the site's data. predictions: the folder of the model's predictions.
        out: folder for the pictures.
        model: its kind, for the list.

    Returns:
        a list of the pictures, each with the file as seen from beside ``out``, the case and its score.
    """
    cases = {folder.case_names[case["image"]]: case for case in folder.cases("test")}
    primary, overlays = task.primary, []
    for which, case in select_cases([from_json(CaseScore, case) for case in scored.get("cases", [])], primary).items():
        file, score = out / f"{which}.png", case.mean(primary.name)
        title = f"{case.case} · {primary.title} {primary.text(score)}"
        task.draw(cases[case.case], predictions, case.case, file, labels=folder.labels, title=title)
        listed = file.relative_to(out.parent).as_posix()
        overlays.append({"file": listed, "case": case.case, "which": which, "model": model, "score": score})
    return overlays


def select_cases(scores: Sequence[CaseScore], primary: Metric) -> dict[str, CaseScore]:
    """Return the ``best``, ``median`` and ``worst`` case, each case at most once.

    Of an even number the median is the worse of the two middle cases (our choice: show the harder one). One
    case is the ``best``, two are ``best`` and ``worst``. Ties go by name.
    """
    ranked = sorted(scores, key=lambda case: (-primary.goodness(case.mean(primary.name)), case.case))
    chosen = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    if len(ranked) < 3:
        del chosen["median"]
    return {which: ranked[place] for which, place in chosen.items() if which == "best" or place > 0} if ranked else {}
