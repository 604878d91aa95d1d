"""Scoring a network on a site's cases through the bundle's own inference: what is scored is what is served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.transforms import Compose, SaveImaged
from torch import Tensor, nn

from sitelora.data.errors import behind
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.kept_cases import ROOM, KeptCases
from sitelora.evaluation.scores import summarise
from sitelora.run_result import CaseScore
from sitelora.serving.answer import Pipeline, answered, quick
from sitelora.task import Decision, Task


def predict(network: nn.Module, image: Path, task: Task, pipeline: Pipeline, kept: KeptCases | None = None) -> Any:
    """Return what a network predicts of one image, as its task scores it.

    Args:
        network: in any mode; it is left in evaluation mode.
        image: a NIfTI volume or a PNG picture.
        task: of the bundle. pipeline: the bundle's inference parts.
        kept: what was prepared by this very pipeline before, if anything is kept.

    Raises:
        SiteDataError: the file is unreadable or unfit; it was not when the check read it.
    """
    if kept is None:
        data = prepared(image, pipeline)
    else:
        data = kept.get("image", image, lambda: prepared(image, pipeline), lambda made: int(made["image"].nbytes))
    logits = answered(network, data["image"].as_subclass(Tensor)[None], pipeline)
    steps = [quick(step) for step in pipeline("postprocessing").transforms if not _writes(step)]
    return task.prediction(Compose(steps)({"image": data["image"], "pred": logits[0]})["pred"].cpu())


def prepared(image: Path, pipeline: Pipeline) -> dict[str, Any]:
    """Return what a bundle's preprocessing makes of a file.

    Raises:
        SiteDataError: the file is unreadable or unfit; it was not when the check read it.
    """
    try:
        data: dict[str, Any] = pipeline("preprocessing")({"image": str(image)})
    except RuntimeError as error:  # the file is another one than at begin
        if (unfit := behind(error)) is None:
            raise
        raise unfit from None
    return data


def _truth(case: Mapping[str, Any], folder: SiteFolder, task: Task, kept: KeptCases | None) -> Any:
    """Return a case's truth; of what lies in a file, what was read of it before."""
    file = case.get(task.truth)
    if kept is None or not isinstance(file, str):
        return task.read_truth(case, folder.labels)
    return kept.get("truth", file, lambda: task.read_truth(case, folder.labels), _truth_bytes)


def _truth_bytes(truth: Any) -> int:
    """Return how large a truth is; of one that does not say, too large to be kept."""
    return int(getattr(getattr(truth, "values", truth), "nbytes", ROOM))


def _writes(step: Any) -> bool:
    """Say whether a step of a bundle's postprocessing is there for files alone."""
    return isinstance(step, SaveImaged) or bool(getattr(step, "writes_files", False))


def fitted_decision(
    network: nn.Module,
    folder: SiteFolder,
    split: str,
    task: Task,
    *,
    pipeline: Pipeline,
    kept: KeptCases | None = None,
) -> Decision | None:
    """Return what a task fits for a network on one split of a site; None where it fits nothing.

    Args:
        network: the model as it would be served.
        folder: the site's data. split: "validation", never "test".
        task: of the bundle. pipeline: the bundle's inference parts. kept: as of `predict`.
    """
    if task.fit_decision is None:
        return None
    cases = folder.cases(split)
    truths = [_truth(case, folder, task, kept) for case in cases]
    predictions = [predict(network, Path(case["image"]), task, pipeline, kept) for case in cases]
    return task.fit_decision(list(zip(predictions, truths, strict=True)), folder.labels)


def evaluate_cases(
    network: nn.Module,
    folder: SiteFolder,
    split: str,
    task: Task,
    *,
    pipeline: Pipeline,
    decision: Decision | None = None,
    primary_only: bool = False,
    keep_predictions: Path | None = None,
    kept: KeptCases | None = None,
) -> dict[str, Any]:
    """Score a network on one split of a site, in the native space of every case.

    Args:
        network: the model as it would be served.
        folder: the site's data. split: "validation" or "test".
        task: of the bundle. pipeline: the bundle's inference parts.
        decision: what was fitted for this network, if anything.
        primary_only: leave all scores but the primary one out (quick, between rounds).
        keep_predictions: folder for the predictions, under the names of the cases.
        kept: as of `predict`.

    Returns:
        What ``summarise`` gives: mean score, interval, and every case.
    """
    scores = []
    for case in folder.cases(split):
        truth = _truth(case, folder, task, kept)
        prediction = task.decide(predict(network, Path(case["image"]), task, pipeline, kept), decision or {})
        metrics = task.score_case(prediction, truth, folder.labels, primary_only=primary_only)
        name = folder.case_names[case["image"]]
        scores.append(CaseScore(case=name, patient=str(case["patient"]), metrics=metrics))
        if keep_predictions is not None:
            keep_predictions.mkdir(parents=True, exist_ok=True)
            task.keep(prediction, truth, keep_predictions, name)
    return summarise(scores, task.primary, score_set=task.score_set)
