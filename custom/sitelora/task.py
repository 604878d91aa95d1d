"""What a task is: a value that says how truth is read, what is predicted, and how a case is scored and drawn.

Nothing but its own file in ``tasks/`` knows what the truth of a case looks like. The primary score is one of a case:
two models are told apart case by case, paired (our choice), when a site chooses what it is served and when methods are
compared. What only many cases together have, such as an area under a curve, stands beside it (``score_set``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sitelora.metric import Metric
from sitelora.plot import Plot
from sitelora.run_result import CaseScore

if TYPE_CHECKING:  # a report asks tasks too, and starts without torch
    from torch import Tensor

Labels = Mapping[int, str]
"""Label value to name, as dataset.json lists them."""
CaseMetrics = dict[str, dict[str, float | None]]
"""Label name to metric to value; every case has the same labels and metrics, None where one is undefined."""
Decision = Mapping[str, Any]
"""What a site has fitted of how a model's answer becomes a decision, as plain values; empty where nothing is."""


class ScoreCase(Protocol):
    """Scores a prediction against the truth of its case."""

    def __call__(self, prediction: Any, truth: Any, labels: Labels, *, primary_only: bool) -> CaseMetrics:
        """Return the metrics of one case; with ``primary_only`` the primary one alone, quick enough for every round."""


class DrawCase(Protocol):
    """Draws a case with its truth and what was predicted, for the site's own eyes."""

    def __call__(
        self, case: Mapping[str, Any], folder: Path, name: str, file: Path, *, labels: Labels, title: str
    ) -> None:
        """Write one PNG.

        Args:
            case: as the site folder lists it. folder: where the predictions were kept. name: of the case.
            file: to write. labels: of the site. title: one line above the picture.
        """


class Explain(Protocol):
    """Draws what of an image speaks for a model's answer, for the site's own eyes."""

    def __call__(
        self, answer: Callable[[Tensor], Tensor], image: Tensor, file: Path, *, labels: Labels, title: str
    ) -> None:
        """Write one PNG.

        Args:
            answer: from a batch of images to what the network says of them, before any postprocessing.
            image: as the bundle's preprocessing gives it, ``[C, X, Y]`` or ``[C, X, Y, Z]`` with its affine.
            file: to write. labels: of the site. title: one line above the picture.
        """


class ScoreSet(Protocol):
    """Scores many cases together, in many draws of them at once."""

    def __call__(self, cases: Sequence[CaseScore], weights: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Return every score by name, ``[R]``, NaN where it is undefined.

        Args:
            cases: N of them. weights: how often every case counts in every draw, ``[R, N]``; all one for the cases
                as they are.
        """


class FitDecision(Protocol):
    """Fits on a site's validation cases what turns a model's answers into decisions."""

    def __call__(self, answers: Sequence[tuple[Any, Any]], labels: Labels) -> Decision:
        """Return it as plain values, with a text ``why`` that a reader may be told.

        Args:
            answers: of every case the prediction and the truth. labels: of the site.
        """


class LegendLine(NamedTuple):
    """One line of a legend: what it stands for, and its look; ``dashes`` where these alone are what it stands for."""

    words: str
    colour: str
    width: float
    dashes: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Album:
    """What a site looks at of its test cases.

    Attributes:
        words: which cases these are, a sentence without an end. picture: what one picture shows.
        chosen: from all scored cases to those that are drawn, by a word each.
        legend: of the lines in the pictures, by the names of the classes.
    """

    words: str
    picture: str
    chosen: Callable[[Sequence[CaseScore], Metric], Mapping[str, CaseScore]]
    legend: Callable[[Sequence[str]], Sequence[LegendLine]] | None = None


def best_median_worst(scores: Sequence[CaseScore], primary: Metric) -> dict[str, CaseScore]:
    """Return the ``best``, ``median`` and ``worst`` case, each case at most once.

    Of an even number the median is the worse of the two middle cases (our choice: show the harder one). One
    case is the ``best``, two are ``best`` and ``worst``. Ties go by name.
    """
    ranked = sorted(scores, key=lambda case: (-primary.goodness(case.mean(primary.name)), case.case))
    chosen = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    if len(ranked) < 3:
        del chosen["median"]
    return {which: ranked[place] for which, place in chosen.items() if which == "best" or place > 0} if ranked else {}


def _no_set_scores(cases: Sequence[CaseScore], weights: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    return {}


def _as_it_is(prediction: Any, decision: Decision) -> Any:
    return prediction


def _no_plots(cases: Sequence[CaseScore]) -> Sequence[Plot]:
    return ()


def _nothing_wrong(metrics: CaseMetrics) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        name: of its file, by which a bundle declares it.
        truth: key of a case in dataset.json under which its truth stands: "label" or "class".
        metrics: of a case and a label. The first is the primary one: a case's score is its mean over labels.
        set_metrics: what only many cases together have.
        values: of a case and a label, no scores: what set scores and plots are made of.
        read_truth: from a case as listed and the site's labels to the truth; refuses what no truth may be
            (SiteDataError).
        prediction: from what the bundle's postprocessing gives of one case to what is scored.
        fit_decision: what a site fits on its validation cases, if anything; it is kept in the model's file.
        decide: from a prediction and what was fitted to what is scored, and served.
        score_case: metrics of one case.
        wrong: why a case's numbers cannot be ones that ``score_case`` gave; empty where they can.
        keep: writes a prediction; from prediction, truth, folder and name of the case.
        draw: the case's picture from what ``keep`` wrote.
        leaves: what of a test case, under a number, the server is told, in words. stays: what of a case it never is.
        explain: what of a drawn case's image speaks for the answer, as one more picture; None where nothing is to say.
        album: which cases are drawn, and the words around the pictures.
        score_set: from all cases' scores to ``set_metrics`` by name; a pure function, because the server has no more
            than the numbers of the cases.
        plots: what is drawn of all cases of a model at a site, from their scores alone.
    """

    name: str
    truth: str
    metrics: tuple[Metric, ...]
    set_metrics: tuple[Metric, ...] = ()
    values: tuple[Metric, ...] = ()
    read_truth: Callable[[Mapping[str, Any], Labels], Any]
    prediction: Callable[[Tensor], Any]
    fit_decision: FitDecision | None = None
    decide: Callable[[Any, Decision], Any] = _as_it_is
    score_case: ScoreCase
    wrong: Callable[[CaseMetrics], str] = _nothing_wrong
    keep: Callable[[Any, Any, Path, str], None]
    draw: DrawCase
    explain: Explain | None = None
    leaves: str
    stays: str
    album: Album
    score_set: ScoreSet = _no_set_scores
    plots: Callable[[Sequence[CaseScore]], Sequence[Plot]] = _no_plots

    @property
    def scoring(self) -> dict[str, Any]:
        """What every record says of the task: its name, the primary score's, and all scores that there are."""
        return {"task": self.name, "primary": self.primary.name, "metrics": (*self.metrics, *self.set_metrics)}

    @property
    def primary(self) -> Metric:
        """The score that models are judged and shown by."""
        return self.metrics[0]
