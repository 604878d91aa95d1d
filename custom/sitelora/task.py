"""What a task is: a value that says how truth is read, what is predicted, and how a case is scored and drawn.

Nothing but its own file in ``tasks/`` knows what the truth of a case looks like. The primary score is one of a case:
two models are told apart case by case, paired (our choice), when a site chooses what it is served and when methods are
compared. What only many cases together have, such as an area under a curve, stands beside it (``score_set``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sitelora.metric import Metric
from sitelora.run_result import CaseScore

Labels = Mapping[int, str]
"""Label value to name, as dataset.json lists them."""
CaseMetrics = dict[str, dict[str, float | None]]
"""Label name to metric to value; every case has the same labels and metrics, None where one is undefined."""


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


def _no_set_scores(cases: Sequence[CaseScore]) -> Mapping[str, float | None]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        name: of its file, by which a bundle declares it.
        truth: key of a case in dataset.json under which its truth stands: "label" or "class".
        metrics: of a case and a label. The first is the primary one: a case's score is its mean over labels.
        set_metrics: what only many cases together have.
        read_truth: from a case as listed and the site's labels to the truth; refuses what no truth may be
            (SiteDataError).
        prediction: from what the bundle's postprocessing gives of one case to what is scored.
        score_case: metrics of one case.
        keep: writes a prediction; from prediction, truth, folder and name of the case.
        draw: the case's picture from what ``keep`` wrote.
        score_set: from all cases' scores to ``set_metrics`` by name; a pure function, because the server has no more
            than the numbers of the cases.
    """

    name: str
    truth: str
    metrics: tuple[Metric, ...]
    set_metrics: tuple[Metric, ...] = ()
    read_truth: Callable[[Mapping[str, Any], Labels], Any]
    prediction: Callable[[Tensor], Any]
    score_case: ScoreCase
    keep: Callable[[Any, Any, Path, str], None]
    draw: DrawCase
    score_set: Callable[[Sequence[CaseScore]], Mapping[str, float | None]] = _no_set_scores

    @property
    def scoring(self) -> dict[str, Any]:
        """What every record says of the task: its name, the primary score's, and all scores that there are."""
        return {"task": self.name, "primary": self.primary.name, "metrics": (*self.metrics, *self.set_metrics)}

    @property
    def primary(self) -> Metric:
        """The score that models are judged and shown by."""
        return self.metrics[0]
