"""Scoring a network on a site's cases through the bundle's own inference: what is scored is what is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, SaveImaged
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.errors import behind
from sitelora.data.nifti import write_nifti
from sitelora.data.rules import read_label
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.metrics import case_metrics
from sitelora.evaluation.scores import summarise
from sitelora.run_result import CaseScore

Pipeline = Callable[[str], Any]
"""Gives the parts of a bundle's inference config by id: "preprocessing", "inferer", "postprocessing"."""


def predict(network: nn.Module, image: Path, pipeline: Pipeline) -> NDArray[np.uint8]:
    """Return the label map of one image in its native space: ``[X, Y, Z]`` of a volume, ``[H, W]`` of a picture.

    Args:
        network: in any mode; it is left in evaluation mode.
        image: a NIfTI volume or a PNG picture.
        pipeline: the bundle's inference parts.

    Raises:
        SiteDataError: the file is unreadable or unfit; it was not when the check read it.
    """
    network.eval()
    device = next(network.parameters()).device
    try:
        data = pipeline("preprocessing")({"image": str(image)})
    except RuntimeError as error:  # the file is another one than at begin
        if (unfit := behind(error)) is None:
            raise
        raise unfit from None
    with torch.no_grad():
        # as a plain tensor: metadata has no business on another device
        pixels = data["image"].as_subclass(torch.Tensor)[None].to(device)
        logits = pipeline("inferer")(pixels, network).cpu()
    steps = [step for step in pipeline("postprocessing").transforms if not isinstance(step, SaveImaged)]
    result = Compose(steps)({"image": data["image"], "pred": logits[0]})["pred"]
    labels = np.asarray(result.cpu())[0].astype(np.uint8)
    return labels.T if labels.ndim == 2 else labels  # MONAI reads pictures with the first axis to the right


def evaluate_cases(
    network: nn.Module,
    folder: SiteFolder,
    split: str,
    *,
    pipeline: Pipeline,
    dice_only: bool = False,
    keep_predictions: Path | None = None,
) -> dict[str, Any]:
    """Score a network on one split of a site, in the native space of every case.

    Args:
        network: the model as it would be served.
        folder: the site's data. split: "validation" or "test".
        pipeline: the bundle's inference parts.
        dice_only: leave the surface distances out (quick, between rounds).
        keep_predictions: folder for the predicted label maps, under the names of the cases.

    Returns:
        What ``summarise`` gives: mean Dice, interval, and every case.
    """
    scores = []
    for case in folder.cases(split):
        truth = read_label(Path(case["label"]), folder.labels)
        prediction = predict(network, Path(case["image"]), pipeline)
        whole = truth.values.astype(np.int64)
        if dice_only:
            metrics = _dice_of_labels(prediction, whole, folder)
        else:
            spacing = truth.spacing_mm
            metrics = case_metrics(prediction.astype(np.int64), whole, labels=folder.labels, spacing_mm=spacing)
        name = folder.case_names[case["image"]]
        scores.append(CaseScore(case=name, patient=str(case["patient"]), metrics=metrics))
        if keep_predictions is not None:
            keep_predictions.mkdir(parents=True, exist_ok=True)
            path = prediction_path(keep_predictions, name, picture=truth.affine is None)
            if truth.affine is None:
                Image.fromarray(prediction).save(path)
            else:
                write_nifti(path, prediction, truth.affine)
    return summarise(scores)


def prediction_path(folder: Path, case: str, *, picture: bool) -> Path:
    """Return where a case's predicted label map lies: what a file is and what it is called agree."""
    return folder / f"{case}{PICTURES[0] if picture else VOLUMES[0]}"


def _dice_of_labels(
    prediction: NDArray[np.uint8], truth: NDArray[np.int64], folder: SiteFolder
) -> dict[str, dict[str, float | None]]:
    scores: dict[str, dict[str, float | None]] = {}
    for value, name in folder.labels.items():
        if value == 0:
            continue
        one, two = prediction == value, truth == value
        total = int(one.sum()) + int(two.sum())
        scores[name] = {"dice": 2 * int((one & two).sum()) / total if total else 1.0}
    return scores
