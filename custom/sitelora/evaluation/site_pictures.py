"""What a site keeps to look at of its evaluation: the pictures of its best, median and worst case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sitelora.data.reading import Pixels
from sitelora.data.rules import read_image, read_label
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.case_picture import draw_case
from sitelora.evaluation.cases import prediction_path
from sitelora.evaluation.overlays import select_cases
from sitelora.run_result import CaseScore
from sitelora.typed_json import from_json


def draw_cases(
    scored: Mapping[str, Any], out: Path, *, folder: SiteFolder, predictions: Path, model: str = "personal"
) -> list[dict[str, Any]]:
    """Draw the best, the median and the worst test case of one model; the pictures stay at the site.

    Args:
        scored: what ``evaluate_cases`` gave for the model.
        out: folder for the pictures.
        folder: the site's data. predictions: the folder of the model's predicted masks.
        model: its kind, for the list.

    Returns:
        a list of the pictures, each with the file as seen from beside ``out``, the case and its Dice.
    """
    cases = {folder.case_names[case["image"]]: case for case in folder.cases("test")}
    overlays = []
    scores = [from_json(CaseScore, case) for case in scored.get("cases", [])]
    for which, score in select_cases(scores).items() if scores else ():
        image = read_image(Path(cases[score.case]["image"]))
        truth = read_label(Path(cases[score.case]["label"]), folder.labels)
        picture = image.affine is None
        prediction = read_label(prediction_path(predictions, score.case, picture=picture), folder.labels)
        file = out / f"{which}.png"
        draw_case(
            _shown(image),
            truth.values,
            prediction.values,
            file,
            title=f"{score.case} · Dice {score.dice:.3f}",
            labels=folder.labels,
            spacing_mm=image.spacing_mm,
            affine=image.affine,
        )
        listed = file.relative_to(out.parent).as_posix()
        overlays.append({"file": listed, "case": score.case, "which": which, "model": model, "dice": score.dice})
    return overlays


def _shown(image: Pixels) -> NDArray[np.generic]:
    """Return what is drawn of an image: bytes of an 8-bit picture, grey of a volume in three channels."""
    values = image.values
    if image.affine is not None:
        return values if values.ndim == 3 else values.mean(axis=-1)
    return values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else values
