"""What a site keeps of its evaluation: the numbers and the pictures of its best, median and worst case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sitelora.data.reading import Pixels
from sitelora.data.rules import read_image, read_label
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.cases import prediction_path
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
    cases = {folder.case_names[case["image"]]: case for case in folder.cases("test")}
    overlays = []
    scores = [CaseScore.from_json(case) for case in results.get(model, {}).get("cases", [])]
    for which, score in select_cases(scores).items() if scores else ():
        image = read_image(Path(cases[score.case]["image"]))
        truth = read_label(Path(cases[score.case]["label"]), folder.labels)
        picture = image.affine is None
        prediction = read_label(prediction_path(out / "predictions", score.case, picture=picture), folder.labels)
        file = f"overlays/{which}.png"
        draw_case(
            _shown(image),
            truth.values,
            prediction.values,
            out / file,
            title=f"{score.case} · Dice {score.dice:.3f}",
            labels=folder.labels,
            spacing_mm=image.spacing_mm,
            affine=image.affine,
        )
        overlays.append({"file": file, "case": score.case, "which": which, "model": model, "dice": score.dice})
    path = out / "evaluation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**results, "overlays": overlays}, indent=1) + "\n", encoding="utf-8")
    return path


def _shown(image: Pixels) -> NDArray[np.generic]:
    """Return what is drawn of an image: bytes of an 8-bit picture, grey of a volume in three channels."""
    values = image.values
    if image.affine is not None:
        return values if values.ndim == 3 else values.mean(axis=-1)
    return values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else values
