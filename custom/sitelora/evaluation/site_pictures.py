"""What a site keeps to look at of its evaluation: the pictures of the cases that its task chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sitelora.data.site_folder import SiteFolder
from sitelora.run_result import CaseScore
from sitelora.task import Task
from sitelora.typed_json import from_json


def draw_cases(
    scored: Mapping[str, Any],
    task: Task,
    folder: SiteFolder,
    predictions: Path,
    *,
    out: Path,
    model: str = "personal",
    explained: Callable[[Path, Path, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Draw the test cases of one model that the task's album has; the pictures stay at the site.

    Args:
        scored: what ``evaluate_cases`` gave for the model.
        task: of the bundle. folder: the site's data. predictions: the folder of the model's predictions.
        out: folder for the pictures.
        model: its kind, for the list.
        explained: draws what of an image speaks for the model's answer; from image, file to write and title.

    Returns:
        a list of the pictures, each with the file as seen from beside ``out``, the case and its score.
    """
    cases = {folder.case_names[case["image"]]: case for case in folder.cases("test")}
    primary, overlays, patches = task.primary, [], []
    scores = [from_json(CaseScore, case) for case in scored.get("cases", [])]
    for which, case in task.album.chosen(scores, primary).items():
        file = out / f"{which.replace(' ', '-')}.png"
        score = None if primary.balanced else case.mean(primary.name)  # right or wrong is no score to show
        title = case.case if score is None else f"{case.case} · {primary.title} {primary.text(score)}"
        task.draw(cases[case.case], predictions, case.case, file, labels=folder.labels, title=title)
        told = {"case": case.case, "model": model}
        overlays.append({"file": _listed(file, out), "which": which, "score": score, **told})
        if explained is not None:
            file = file.with_stem(f"{file.stem}-patches")
            explained(Path(cases[case.case]["image"]), file, case.case)
            patches.append({"file": _listed(file, out), "which": f"{which}, what counts", "score": None, **told})
    return [*overlays, *patches]


def _listed(file: Path, out: Path) -> str:
    return file.relative_to(out.parent).as_posix()
