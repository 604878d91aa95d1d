"""What a site keeps of its evaluation: the numbers and the pictures of its best, median and worst case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.cases import case_name, read_native
from sitelora.evaluation.scores import CaseScore
from sitelora.report.case_picture import draw_case
from sitelora.report.overlays import select_cases


def write_evaluation(results: Mapping[str, Any], out: Path, *, folder: SiteFolder, model: str = "personal") -> Path:
    """Write ``evaluation.json`` and ``overlays/*.png`` of one model; they stay at the site.

    Args:
        results: by model kind, what ``evaluate_cases`` gave.
        out: the site's evaluation folder, with ``predictions/`` of the drawn model in it.
        folder: the site's data.
        model: kind of the model whose cases are drawn.
    """
    cases = {case_name(Path(case["image"])): case for case in folder.cases("test")}
    overlays = []
    scores = [CaseScore.from_json(case) for case in results.get(model, {}).get("cases", [])]
    for which, score in select_cases(scores).items() if scores else ():
        image_path = Path(cases[score.case]["image"])
        image, affine = read_native(image_path)
        truth, _ = read_native(Path(cases[score.case]["label"]))
        prediction, _ = read_native(out / "predictions" / image_path.name)
        file = f"overlays/{which}.png"
        draw_case(
            image,
            np.rint(truth).astype(np.int64),
            prediction,
            out / file,
            title=f"{score.case} · Dice {score.dice:.3f}",
            labels=folder.labels,
            spacing_mm=None if affine is None else [float(s) for s in np.linalg.norm(affine[:3, :3], axis=0)],
            affine=affine,
        )
        overlays.append({"file": file, "case": score.case, "which": which, "model": model, "dice": score.dice})
    path = out / "evaluation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**results, "overlays": overlays}, indent=1) + "\n", encoding="utf-8")
    return path
