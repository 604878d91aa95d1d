"""Classification: the truth of a case is one class, a number in the site's list, and so is what is decided.

A case's primary score is 1 or 0 under its true class and nothing under the others: of many cases, the mean over classes
of their shares of right ones is balanced accuracy, over the classes that there are cases of. Probabilities travel with
the numbered cases, because areas, calibration and curves are made of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sitelora.data.check_classes import is_class
from sitelora.data.errors import UnfitFileError
from sitelora.data.site_folder import DATALIST
from sitelora.metric import Metric
from sitelora.task import Album, CaseMetrics, Labels, Task
from sitelora.tasks.classes.case_picture import draw_case
from sitelora.tasks.classes.decision import Answer, Decision, decide, fit
from sitelora.tasks.classes.mistakes import most_certain_mistakes
from sitelora.tasks.classes.occlusion import draw_occlusion
from sitelora.tasks.classes.plots import plots
from sitelora.tasks.classes.set_scores import CHOSEN, PROBABILITY, RIGHT, UNCALIBRATED, score_set

BALANCED_ACCURACY = Metric(
    name=RIGHT,
    title="Balanced accuracy",
    help="Mean over the classes of the share of their cases that is classified rightly: chance is one divided by the "
    "number of classes, 1 is perfect. A class without a case at a site has no part in it. By class it is that class's "
    "share.",
    balanced=True,
)
OF_TRUTH = Metric(
    name="truth_probability",
    title="Probability of truth",
    help="What the model gave the true class of a case, after calibration; the mean over cases.",
)
_MORE = " With more than two classes: one class against the rest, the mean over the classes that there are cases of."
SET_METRICS = (
    Metric(
        name="sensitivity",
        title="Sensitivity",
        help=f"Share of the cases of the positive class, the second one, that is found.{_MORE}",
    ),
    Metric(
        name="specificity",
        title="Specificity",
        help=f"Share of the other cases that is not taken for the positive class.{_MORE}",
    ),
    Metric(
        name="auc",
        title="AUC",
        help="Area under the ROC curve: how often a case of the positive class has a higher probability of it than "
        f"another case; 0.5 is chance.{_MORE}",
    ),
    Metric(
        name="mcc",
        title="MCC",
        help="Matthews' correlation of true and chosen class: 0 is chance, 1 is perfect.",
        lowest=-1.0,
    ),
    *(
        Metric(
            name=f"{name}{key}",
            title=f"{title}{words}",
            help=f"{told}{' Of the probabilities as the network gives them.' if key else ''}",
            more_is_better=False,
        )
        for name, title, told in (
            (
                "ece",
                "ECE",
                "Expected calibration error: how far the probabilities are from what came true, in ten bins; smaller "
                "is better. Of two classes the probability of the second counts, else the largest one.",
            ),
            (
                "brier",
                "Brier",
                "Brier score: half the mean squared distance of the probabilities from the truth; smaller is better.",
            ),
        )
        for key, words in (("", ""), ("_uncalibrated", ", uncalibrated"))
    ),
)
VALUES = tuple(
    Metric(name=name, title=title, help=told)
    for name, title, told in (
        (CHOSEN, "Chosen", "1 under the class that is chosen, 0 under the others."),
        (PROBABILITY, "Probability", "Of every class, with the temperature that the site has fitted."),
        (UNCALIBRATED, "Uncalibrated probability", "The same as the network gives it."),
    )
)
NEAR = 1e-3
"""How far a sum of probabilities may be from 1."""


def read_truth(case: Mapping[str, Any], labels: Labels) -> int:
    """Return a case's class.

    Raises:
        UnfitFileError: it is none that the site lists.
    """
    value = case["class"]
    if not is_class(value, labels):
        raise UnfitFileError(
            Path(str(case["image"])), f"class {value!r}", f"one of {sorted(labels)}", f"correct it in {DATALIST}"
        )
    return int(value)


def logits_of(predicted: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the logits of a case, ``[K]``, from what a bundle's postprocessing gives."""
    return np.asarray(predicted, dtype=np.float64).reshape(-1)


def fit_decision(answers: Sequence[tuple[Any, Any]], labels: Labels) -> Mapping[str, Any]:
    """Return temperature and limits from logits and true classes; see `classes.decision.fit`."""
    if not answers:
        return Decision(why="not fitted: no validation cases").to_json()
    logits, truth = zip(*answers, strict=True)
    return fit(np.stack(logits), truth, by=BALANCED_ACCURACY).to_json()


def score_case(prediction: Answer, truth: int, labels: Labels, *, primary_only: bool = False) -> CaseMetrics:
    """Return under the true class whether it was chosen, and unless that is asked for alone, every probability.

    Raises:
        ValueError: the network has another number of classes than the site's list.
    """
    if len(prediction.probabilities) != len(labels):
        raise ValueError(
            f"found {len(prediction.probabilities)} probabilities, expected one for each of the {len(labels)} labels: "
            "set classes to the number of labels in dataset.json"
        )
    scores: CaseMetrics = {}
    for value, name in sorted(labels.items()):
        scores[name] = {RIGHT: float(prediction.chosen == truth) if value == truth else None}
        if not primary_only:
            scores[name] |= {
                OF_TRUTH.name: float(prediction.probabilities[value]) if value == truth else None,
                CHOSEN: float(prediction.chosen == value),
                PROBABILITY: float(prediction.probabilities[value]),
                UNCALIBRATED: float(prediction.uncalibrated[value]),
            }
    return scores


def wrong(metrics: CaseMetrics) -> str:
    """Return why no case has such numbers: one true class, one chosen, probabilities that add up to one."""
    if len(metrics) < 2:
        return f"{len(metrics)} class, expected two or more"
    found = {name: [values.get(name) for values in metrics.values()] for name in (RIGHT, CHOSEN)}
    told = [value for value in found[RIGHT] if value is not None]
    if len(told) != 1 or sorted({0.0, *(value or 0.0 for value in found[CHOSEN])}) != [0.0, 1.0]:
        return f"{len(told)} true classes and the chosen ones {found[CHOSEN]}, expected one of each"
    if found[CHOSEN].count(1.0) != 1 or (found[RIGHT].index(told[0]) == found[CHOSEN].index(1.0)) != (told[0] == 1.0):
        return f"{RIGHT} {told[0]} where the chosen classes are {found[CHOSEN]}"
    own = list(metrics.values())[found[RIGHT].index(told[0])]
    if own.get(OF_TRUTH.name) != own.get(PROBABILITY):
        return f"{OF_TRUTH.name} {own.get(OF_TRUTH.name)}, expected the true class's {own.get(PROBABILITY)}"
    for name in (PROBABILITY, UNCALIBRATED):
        values = [each.get(name) for each in metrics.values()]
        if any(value is None for value in values) or abs(sum(value or 0.0 for value in values) - 1) > NEAR:
            return f"the values {values} of {name}, expected numbers that add up to one"
    return ""


def keep(prediction: Answer, truth: int, folder: Path, name: str) -> None:
    """Write what a model says of a case, and its truth, under the case's name."""
    told = {
        "truth": truth,
        "chosen": prediction.chosen,
        "probabilities": prediction.probabilities.tolist(),
        "uncalibrated": prediction.uncalibrated.tolist(),
    }
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def draw(case: Mapping[str, Any], folder: Path, name: str, file: Path, *, labels: Labels, title: str) -> None:
    """Draw the image with truth and probabilities below it."""
    told = json.loads((folder / f"{name}.json").read_bytes())
    draw_case(
        Path(case["image"]),
        file,
        title=title,
        truth=labels[read_truth(case, labels)],
        chosen=labels[told["chosen"]],
        probabilities={labels[value]: share for value, share in enumerate(told["probabilities"])},
    )


def explain(answer: Callable[[Tensor], Tensor], image: Tensor, file: Path, *, labels: Labels, title: str) -> None:
    """Draw what of an image speaks for the likeliest class; see `classes.occlusion`."""
    affine = np.asarray(getattr(image, "affine", np.eye(4))) if image.ndim == 4 else None
    names = tuple(name for _, name in sorted(labels.items()))
    draw_occlusion(answer, image.as_subclass(Tensor), file, names=names, title=title, affine=affine)


TASK = Task(
    name="classification",
    truth="class",
    metrics=(BALANCED_ACCURACY, OF_TRUTH),
    set_metrics=SET_METRICS,
    values=VALUES,
    read_truth=read_truth,
    prediction=logits_of,
    fit_decision=fit_decision,
    decide=decide,
    score_case=score_case,
    wrong=wrong,
    keep=keep,
    draw=draw,
    explain=explain,
    leaves="its true class, the chosen one and the probability of every class",
    stays="images, pictures of cases",
    album=Album(
        words="Every site's most certain mistakes on test cases, and beside each the same image with the patches that "
        "speak for the likeliest class (orange) or against it (blue): covered, its probability falls or rises",
        picture="image with its true class and what was predicted",
        chosen=most_certain_mistakes,
    ),
    score_set=score_set,
    plots=plots,
)
