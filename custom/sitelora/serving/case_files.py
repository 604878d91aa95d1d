"""What a classification bundle leaves of the images it was given: one table of all cases, and one JSON for each.

The answer of a case is made as it was scored: the model's file says how its logits become probabilities and a class.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils import CommonKeys, ImageMetaKey
from numpy.typing import NDArray

from sitelora.data.case_names import unique_names
from sitelora.data.errors import SiteDataError
from sitelora.serving.answer import require_numbers
from sitelora.serving.bundle_parts import MaskNames
from sitelora.tasks.classes.decision import Answer, decide

TABLE = "predictions.csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class CaseFiles:
    """A handler of a MONAI evaluator.

    Args:
        output_dir: where the files go; made where it is missing.
        made: what the model's file says of how it was made: the classes' names and the site's decision.
        names: of the cases, where they are not to come from the images of this run alone; told of those that the
            network gives no numbers for, of which nothing is written.
    """

    def __init__(self, *, output_dir: str | Path, made: Mapping[str, Any], names: MaskNames | None = None) -> None:
        self._folder, self._case_names = Path(output_dir), names
        self._names: Mapping[str, str] = made.get("labels", {})
        self._decision: Mapping[str, Any] = made.get("decision", {})
        self._answers: dict[str, tuple[Answer, int | None]] = {}
        self._unanswered: list[SiteDataError] = names.unanswered if names is not None else []

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _begin(self) -> None:
        self._answers.clear()
        self._unanswered.clear()

    def _note(self, engine: Engine) -> None:
        cases: Sequence[Mapping[str, Any]] = engine.state.output  # type: ignore[assignment]
        for case in cases:
            file = str(case[CommonKeys.IMAGE].meta[ImageMetaKey.FILENAME_OR_OBJ])
            truth = case.get(CommonKeys.LABEL)
            try:
                require_numbers(case[CommonKeys.PRED], Path(file))
            except SiteDataError as refusal:
                self._unanswered.append(refusal)
                continue
            answer = decide(case[CommonKeys.PRED].cpu(), self._decision)
            self._answers[file] = (answer, None if truth is None else int(truth))

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        own = self._case_names
        names = {file: own.name(file) for file in self._answers} if own else unique_names(list(self._answers))
        rows = []
        for file, (answer, truth) in self._answers.items():
            told = {
                "case": names[file],
                "image": file,
                **({} if truth is None else {"truth": self._name(truth)}),
                "chosen": self._name(answer.chosen),
                "probability": self._by_class(answer.probabilities),
                "uncalibrated": self._by_class(answer.uncalibrated),
                "decision": dict(self._decision),
            }
            text = json.dumps(told, indent=2, ensure_ascii=False)
            (self._folder / f"{names[file]}.json").write_text(text + "\n", encoding="utf-8")
            rows.append(_flat(told))
        if rows:
            with (self._folder / TABLE).open("w", newline="", encoding="utf-8") as stream:
                table = csv.DictWriter(stream, list(rows[0]))
                table.writeheader()
                table.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
        if own is None and self._unanswered:  # nobody else tells of it
            raise self._unanswered[0]

    def _by_class(self, values: NDArray[np.float64]) -> dict[str, float]:
        return {self._name(number): round(float(value), 6) for number, value in enumerate(values)}

    def _name(self, number: int) -> str:
        return self._names.get(str(number), str(number))


def _cell(value: Any) -> Any:
    """Return what a table says of a value: a spreadsheet takes a text that begins so for a formula and acts on it.

    Names of classes come with a model, of images from whoever sent them.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return one line of the table: a column for every class's probability, and nothing of how it was decided."""
    line: dict[str, Any] = {}
    for key, value in told.items():
        if key != "decision":
            line |= {f"{key}_{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
    return line
