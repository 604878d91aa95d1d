"""A run's file, as any version of SiteLoRA wrote it, read as today's writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitelora.metric import Metric, primary_of
from sitelora.task_registry import find_task
from sitelora.typed_json import from_json, to_json

FORMAT, SERVED = 3, 2
"""1: the rate was chosen on, and the curves show, what a site had trained last; 2: what it is served; 3: scores are
named by what they are of, ``score`` and not the primary score's own name, and the file says what that is."""
ONLY_TASK = "segmentation"
"""Of all files before format 3."""


class ComparisonError(ValueError):
    """Runs that cannot be compared, or that cannot be made; the message says which and what to do."""


def read_run(file: Path) -> dict[str, Any]:
    """Read one run's file.

    Raises:
        ComparisonError: it is not readable.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{file}: {error}; expected a run's JSON, remove it and run again") from error
    return content if content["format"] >= FORMAT else _as_today(content)


def primary_metric(run: Mapping[str, Any]) -> Metric:
    """Return what the scores of a run are of."""
    return primary_of(run["primary"], metrics_of(run))


def metrics_of(run: Mapping[str, Any]) -> list[Metric]:
    """Return all scores that a run may have."""
    return [from_json(Metric, metric, "metrics") for metric in run["metrics"]]


def _as_today(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return an older run under today's names; one of format 2 says the same as one of today."""
    task = find_task(ONLY_TASK)
    name = task.primary.name
    names = {name: "score", f"{name}_ci95": "score_ci95", f"validation_{name}": "validation_score"}

    def renamed(block: Mapping[str, Any]) -> dict[str, Any]:
        return {names.get(key, key): value for key, value in block.items()}

    def each(blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {key: renamed(block) for key, block in blocks.items()}

    found = {**renamed(run), **to_json(task.scoring), "format": run["format"] if run["format"] < SERVED else FORMAT}
    nested = ("models", "elsewhere")
    found["sites"] = {
        site: {key: each(value) if key in nested else value for key, value in facts.items()}
        for site, facts in run["sites"].items()
    }
    if "left_out" in run:
        found["left_out"] = {site: each(blocks) for site, blocks in run["left_out"].items()}
    return found
