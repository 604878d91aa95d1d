"""Segmentation: the truth of a case is a mask of whole numbers on the image's grid, and so is what is predicted.

What a mask may hold is said by `data.rules.read_label`, by which ``check`` and training judge it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.nifti import write_nifti
from sitelora.data.reading import Pixels
from sitelora.data.rules import read_image, read_label
from sitelora.metric import Metric
from sitelora.task import Album, CaseMetrics, Labels, Task, best_median_worst
from sitelora.tasks.masks.case_picture import draw_case
from sitelora.tasks.masks.metrics import case_metrics
from sitelora.tasks.masks.overlays import legend

DICE = Metric(
    name="dice",
    title="Dice",
    help="Overlap of the predicted and the true region: 0 is none, 1 is perfect.",
)
_HD95 = (
    "95 % of the border of either region lies closer than this to the other border; smaller is better. A dash means "
    "that one region is empty, so that there is no distance."
)
HD95 = tuple(
    Metric(name=f"hd95_{short}", title="HD95", help=_HD95, unit=unit, more_is_better=False, highest=None, decimals=1)
    for short, unit in (("mm", "mm"), ("px", "pixels"))
)
NSD = Metric(
    name="nsd",
    title="NSD",
    help="Share of both borders that lies within a tolerance of the other border (2 mm, or 2 pixels for pictures, "
    "unless the run says otherwise); 1 is perfect.",
)


def read_truth(case: Mapping[str, Any], labels: Labels) -> Pixels:
    """Return a case's mask in its native space; see `data.rules.read_label`."""
    return read_label(Path(case["label"]), labels)


def label_map(predicted: Tensor) -> NDArray[np.uint8]:
    """Return the label map in the image's native space: ``[X, Y, Z]`` of a volume, ``[H, W]`` of a picture.

    Args:
        predicted: ``[1, X, Y, Z]`` or ``[1, X, Y]``; MONAI reads pictures with the first axis to the right.
    """
    labels = np.asarray(predicted)[0].astype(np.uint8)
    return labels.T if labels.ndim == 2 else labels


def score_case(
    prediction: NDArray[np.uint8], truth: Pixels, labels: Labels, *, primary_only: bool = False
) -> CaseMetrics:
    """Return Dice and, unless it is asked for alone, the surface distances of every label but the background."""
    whole = truth.values.astype(np.int64)
    if not primary_only:
        return case_metrics(prediction.astype(np.int64), whole, labels=labels, spacing_mm=truth.spacing_mm)
    scores: CaseMetrics = {}
    for value, name in labels.items():
        if value != 0:
            one, two = prediction == value, whole == value
            total = int(one.sum()) + int(two.sum())
            scores[name] = {DICE.name: 2 * int((one & two).sum()) / total if total else 1.0}
    return scores


def keep(prediction: NDArray[np.uint8], truth: Pixels, folder: Path, name: str) -> None:
    """Write a predicted label map under the name of its case, in the form and the geometry of the truth."""
    path = _kept(folder, name, picture=truth.affine is None)
    if truth.affine is None:
        Image.fromarray(prediction).save(path)
    else:
        write_nifti(path, prediction, truth.affine)


def draw(case: Mapping[str, Any], folder: Path, name: str, file: Path, *, labels: Labels, title: str) -> None:
    """Draw truth and prediction as outlines on the image; of a volume, the slice with the most truth."""
    image, truth = read_image(Path(case["image"])), read_truth(case, labels)
    prediction = read_label(_kept(folder, name, picture=image.affine is None), labels)
    draw_case(
        _shown(image),
        truth.values,
        prediction.values,
        file,
        title=title,
        labels=labels,
        spacing_mm=image.spacing_mm,
        affine=image.affine,
    )


def _kept(folder: Path, name: str, *, picture: bool) -> Path:
    """Return where a case's predicted label map lies: what a file is and what it is called agree."""
    return folder / f"{name}{PICTURES[0] if picture else VOLUMES[0]}"


def _shown(image: Pixels) -> NDArray[np.generic]:
    """Return what is drawn of an image: bytes of an 8-bit picture, grey of a volume in three channels."""
    values = image.values
    if image.affine is not None:
        return values if values.ndim == 3 else values.mean(axis=-1)
    return values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else values


TASK = Task(
    name="segmentation",
    truth="label",
    metrics=(DICE, *HD95, NSD),
    read_truth=read_truth,
    prediction=label_map,
    score_case=score_case,
    keep=keep,
    draw=draw,
    leaves="its scores by label",
    stays="images, labels, predictions, pictures of cases",
    album=Album(
        words="Every site's best, median and worst test case, a volume on the slice with the largest true area",
        picture="image with the outlines of truth and prediction",
        chosen=best_median_worst,
        legend=legend,
    ),
)
