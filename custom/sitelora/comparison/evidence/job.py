"""One run of the benchmark: which cell, method, rate, length and seed, where its file is, and what made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.arrangement import sites_of
from sitelora.comparison.evidence.experiment import Entry, Experiment, find_experiment, protocol
from sitelora.comparison.run import Job
from sitelora.comparison.run_file import ComparisonError
from sitelora.comparison.setup import Setup
from sitelora.server.aggregation import MEAN

FORMAT = 1
RUNS = Path("evidence") / "runs"
SECONDS = Path("evidence") / "seconds"
BASES = Path("evidence") / "bases"
ALONE, NEVER_USED = "local", 0.001
"""The method of a site alone; with it and this rate a bundle is read for a probe, which looks at neither."""


@dataclass(frozen=True, kw_only=True)
class EvidenceJob:
    """One federation.

    Args:
        experiment: its name. cell: of the experiment. entry: a row whose run it is; the model does not matter.
        rate: learning rate. steps: of a site in all rounds. seed: of everything that is drawn.
        what: the experiment itself, where it is none of the package's.
    """

    experiment: str
    cell: str
    entry: Entry
    rate: float
    steps: int
    seed: int
    what: Experiment | None = None

    @cached_property
    def asks(self) -> Experiment:
        """The experiment."""
        return self.what or find_experiment(self.experiment)

    @property
    def sites(self) -> tuple[str, ...]:
        """Those that take part."""
        return sites_of(self.asks, self.asks.cells[self.cell], self.seed)

    @property
    def bundle(self) -> str:
        """The bundle that is run."""
        return self.entry.bundle or self.asks.bundle

    def file(self, out: Path) -> Path:
        """Return where the run's file is, below the folder of all results."""
        name = f"{self.entry.run}_s{self.steps}_lr{self.rate:g}_seed{self.seed}.json"
        return out / RUNS / self.experiment / self.cell / name

    def seconds_file(self, out: Path) -> Path:
        """Return where it is said how long such a run trains, at any rate and seed, below the folder of all results."""
        return out / SECONDS / self.experiment / self.cell / f"{self.entry.run}_s{self.steps}.json"

    def base(self, out: Path) -> Path:
        """Return where the base of a row that has another one lies, below the folder of all results."""
        return out / BASES / f"{self.entry.base}.safetensors"

    @property
    def asked(self) -> dict[str, Any]:
        """What a file must have been made with to count as this run."""
        rules, cell = protocol(), self.asks.cells[self.cell]
        asked: dict[str, Any] = {
            "dataset": self.asks.dataset,
            "bundle": self.bundle,
            "sites": list(self.sites),
            "left_out": list(self.asks.left_out),
            "folds": self.asks.folds,
            "cases": dict(cell.cases),
            "drawn": dict(cell.drawn),
            "overrides": dict(self.asks.overrides),
            "rounds": self.asks.rounds,
            "steps": self.steps,
            "method": self.entry.method,
            "weights": self.entry.weights,
            "balanced": self.entry.balanced,
            "rate": self.rate,
            "seed": self.seed,
            "image_size": rules.image_size,
            "precision": rules.precision,
            "validations": rules.validations,
            "tuned_steps": rules.tuned_steps,
        }
        # what most rows have not is said where it is there alone, so that files from before it stay those of today
        rare = {
            "steps_times": self.entry.steps_times if self.entry.steps_times > 1 else 0,
            "random": self.entry.random,
            "base": self.entry.base,
            "aggregation": self.entry.aggregation if self.entry.aggregation != MEAN else "",
            "parts": self.asks.parts if self.asks.parts > 1 else 0,
            "newcomers": self.asks.newcomers,
            "newcomer_steps": self.asks.newcomer_steps,
            "too_wide": dict(cell.too_wide),
        }
        asked |= {key: value for key, value in rare.items() if value}
        plain: dict[str, Any] = json.loads(json.dumps(asked))
        return plain

    @property
    def head(self) -> dict[str, Any]:
        """What the files of a run begin with: which one it is, and what was asked for."""
        return {
            "format": FORMAT,
            "experiment": self.experiment,
            "cell": self.cell,
            "run": self.entry.run,
            "learning_rate": self.rate,
            "steps": self.steps,
            "seed": self.seed,
            "asked": self.asked,
        }

    def job(self, *, data: Path, out: Path, at_a_time: int = 1) -> Job:
        """Return it as a run of a comparison, over data that is arranged already."""
        rules, asks = protocol(), self.asks
        overrides = {
            "image_size": rules.image_size,
            "precision": rules.precision,
            "validate_every": max(1, asks.rounds // rules.validations),
            **asks.overrides,
            **({"base": None} if self.entry.random else {}),
            **({"base": str(self.base(out).absolute())} if self.entry.base else {}),
            "steps_per_epoch": self.steps // asks.rounds * self.entry.steps_times,
        }
        setup = Setup(
            title=asks.title,
            cite=asks.cite,
            dataset=asks.dataset,
            sites=self.sites,
            bundle=self.bundle,
            rounds=asks.rounds,
            epochs=1,
            overrides=overrides,
        )
        return Job(
            name=self.experiment,
            method=ALONE if self.entry.probe else self.entry.method,
            rate=self.rate or NEVER_USED,
            seed=self.seed,
            setup=setup,
            data=data,
            out=out,
            command=f"sitelora evidence --experiments {self.experiment}",
            at_a_time=at_a_time,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` makes it of again, in another process; of experiments of the package only."""
        row = next(name for name, entry in self.asks.rows(self.cell).items() if entry.run == self.entry.run)
        names = {"experiment": self.experiment, "cell": self.cell, "row": row}
        return {**names, "rate": self.rate, "steps": self.steps, "seed": self.seed}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> EvidenceJob:
        """Return the job that `to_json` told.

        Raises:
            ComparisonError: it names nothing that there is.
        """
        try:
            entry = find_experiment(told["experiment"]).rows(told["cell"])[told["row"]]
            rest = {"rate": float(told["rate"]), "steps": int(told["steps"]), "seed": int(told["seed"])}
            return cls(experiment=told["experiment"], cell=told["cell"], entry=entry, **rest)  # type: ignore[arg-type]
        except (KeyError, TypeError) as error:
            raise ComparisonError(f"found {dict(told)!r}, expected a run of the benchmark ({error} is none)") from error

    def __str__(self) -> str:
        return (
            f"{self.experiment}/{self.cell}, {self.entry.run}, rate {self.rate:g}, {self.steps} steps, seed {self.seed}"
        )
