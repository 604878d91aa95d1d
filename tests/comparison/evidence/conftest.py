"""Fake runs of an experiment: what the plan and the verdicts read, without a federation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sitelora.comparison.data_files import read_toml
from sitelora.comparison.evidence.experiment import Experiment, protocol
from sitelora.comparison.evidence.job import FORMAT, EvidenceJob
from sitelora.tasks.segmentation import TASK
from sitelora.typed_json import to_json

TOY = """
title = "Toy"
question = "Does it help?"
cite = "made up"
dataset = "toy"
sites = ["a", "b"]
small = ["a"]
rounds = 4
steps = 8
search = "walk"
axis = "own cases"
[entries.local]
method = "local"
[entries.fedit]
method = "fedavg_lora"
[entries.fedit_tuned]
method = "fedavg_lora"
model = "tuned"
[entries.best]
best_of = ["fedit", "fedit_tuned"]
[cells.one]
title = "one"
at = 1
[cells.two]
title = "two"
at = 2
rates_of = "one"
[[claims]]
text = "the best is above local"
primary = true
sites = ["a"]
over = 2.0
[claims.terms]
"one/best" = 1
"two/best" = 1
"one/local" = -1
"two/local" = -1
[[claims]]
text = "fedit is equal to local for a tenth of the bytes"
primary = true
kind = "equal"
[claims.terms]
"one/fedit" = 1
"one/local" = -1
[[claims]]
text = "tuning helps"
[claims.terms]
"one/fedit_tuned" = 1
"one/fedit" = -1
"""

Models = Mapping[str, tuple[float, Sequence[float]]]
"""By kind: validation score, test scores."""


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    file = tmp_path_factory.mktemp("toy") / "toy.toml"
    file.write_text(TOY, encoding="utf-8")
    return read_toml(Experiment, file)


@pytest.fixture(scope="session")
def fake() -> Callable[..., Path]:
    """Return what writes a run's file: experiment, folder, cell, row, rate, seed, models, and what else it says."""

    def write(
        asks: Experiment,
        out: Path,
        cell: str,
        row: str,
        rate: float,
        seed: int,
        models: Models,
        *,
        steps: int = 8,
        course: Sequence[float] = (),
        bytes_up: int = 100,
        kind: Mapping[str, Any] | None = None,
    ) -> Path:
        entry = asks.entries[row]
        job = EvidenceJob(
            experiment="toy", cell=cell, entry=entry, rate=rate, steps=steps, seed=seed, what=replace(asks)
        )
        count = len(next(iter(models.values()))[1])
        names = [f"case{number}" for number in range(count)]
        block = {
            "hospital": "H",
            "cases": {"training": 2, "validation": 2, "test": count},
            "bytes_up": bytes_up,
            "bytes_down": bytes_up,
            "sent": "shared tensors",
            "names": names,
            "patients": [f"p{number}" for number in range(count)],
            "models": {k: {"validation": v, "cases": list(cases)} for k, (v, cases) in models.items()},
        }
        last = models["personal"][0]
        record = {
            "format": FORMAT,
            "experiment": "toy",
            "cell": cell,
            "run": entry.run,
            "learning_rate": rate,
            "steps": steps,
            "seed": seed,
            "fold": 0,
            "asked": job.asked,
            "command": "sitelora evidence --experiments toy",
            "commit": "abc1234",
            "kind": kind or {"instructions": "X", "gpu": None, "precision": "fp32", "threads": 1, "versions": {}},
            "hardware": {"processor": "P"},
            "base": {"arch": "sam_tiny", "name": "n", "file_sha256": "0"},
            "task": TASK.name,
            "primary": to_json(TASK.primary),
            "trained_values": 10,
            "time": {"seconds": 2.0, "others_cores": 0.0, "seconds_valid": True, "seconds_of_rounds": 1.0},
            "course": {site: list(course) or [last] * 4 for site in asks.sites},
            "rounds": [],
            "sites": {site: block for site in asks.sites},
            "left_out": {},
            "warnings": [],
        }
        file = job.file(out)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record), encoding="utf-8")
        return file

    return write


@pytest.fixture(scope="session")
def rules() -> Any:
    return protocol()
