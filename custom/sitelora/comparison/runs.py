"""The files of a comparison, read and checked: equal budgets, and of every method the runs at its chosen rate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitelora.comparison.run_file import ComparisonError, metrics_of, primary_metric, read_run
from sitelora.comparison.schedule_runs import best_rate, common_budget, last_validation
from sitelora.metric import Metric

Run = Mapping[str, Any]
REFERENCE = "local"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """All runs of a comparison.

    Attributes:
        by_method: runs at the method's chosen learning rate, seeds in order; the reference comes first.
        validation: of every method, the last validation score on the first seed by learning rate.
        sites: names, sorted. every: all files, those at other learning rates too.
    """

    by_method: Mapping[str, Sequence[Run]]
    validation: Mapping[str, Mapping[float, float]]
    sites: Sequence[str]
    every: Sequence[Run]

    @property
    def first(self) -> Run:
        """One run, for what is equal in all."""
        return next(iter(self.by_method.values()))[0]

    @property
    def primary(self) -> Metric:
        """What scores are of."""
        return primary_metric(self.first)

    @property
    def metrics(self) -> list[Metric]:
        """All scores that a run may have."""
        return metrics_of(self.first)

    @property
    def labels(self) -> list[str]:
        """Names of the labels that are scored."""
        return list(self.first["sites"][self.sites[0]]["models"]["personal"]["metrics"])


def read_runs(folder: Path, name: str) -> Runs:
    """Read ``folder/runs/<name>/*.json``.

    Raises:
        ComparisonError: no file, or files that cannot be compared; says which and in what they differ.
    """
    folder = folder / "runs" / name
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ComparisonError(f"{folder}: found no run; make some first (sitelora compare --help)")
    loaded = {file.name: read_run(file) for file in files}
    _require_equal(folder, loaded)
    gathered: dict[str, list[Run]] = {}
    for run in sorted(loaded.values(), key=lambda run: (run["method"] != REFERENCE, run["method"], run["seed"])):
        gathered.setdefault(run["method"], []).append(run)
    chosen, validation = {}, {}
    for method, runs in gathered.items():
        on_first = [run for run in runs if run["seed"] == runs[0]["seed"]]
        rate = best_rate(on_first)
        chosen[method] = [run for run in runs if run["learning_rate"] == rate]
        validation[method] = {run["learning_rate"]: last_validation(run) for run in on_first}
    sites = sorted(next(iter(loaded.values()))["sites"])
    return Runs(by_method=chosen, validation=validation, sites=sites, every=list(loaded.values()))


def _require_equal(folder: Path, loaded: Mapping[str, Run]) -> None:
    keys: dict[str, list[str]] = {}
    for name, run in loaded.items():
        same = {
            "format": run["format"],
            "primary": run["primary"],
            **common_budget(run),
            "data_sha256": run["data_sha256"],
            "base": run["base"]["file_sha256"],
        }
        keys.setdefault(json.dumps(same, sort_keys=True), []).append(name)
    if len(keys) > 1:
        differing = "\n".join(f"  {', '.join(names)}: {key}" for key, names in keys.items())
        raise ComparisonError(f"{folder}: found unequal budgets or data, expected one; run these again:\n{differing}")
