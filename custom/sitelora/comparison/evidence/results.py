"""The files of an experiment's runs, read once and looked up by cell, run, length, rate and seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.experiment import PERSONAL, Entry, Experiment, Protocol
from sitelora.comparison.evidence.job import FORMAT, RUNS, SECONDS, EvidenceJob
from sitelora.comparison.run_file import ComparisonError
from sitelora.metric import Metric
from sitelora.typed_json import from_json

Record = Mapping[str, Any]
Key = tuple[str, str, int, float, int]
"""Cell, run, steps, rate, seed."""


@dataclass(frozen=True)
class Results:
    """What there is of an experiment.

    Args:
        name: of the experiment. asks: the experiment. records: by key. seconds: that a site trains in all rounds, by
            cell, run and steps, where that was timed with nothing else at work.
    """

    name: str
    asks: Experiment
    records: Mapping[Key, Record]
    seconds: Mapping[tuple[str, str, int], float] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, asks: Experiment, out: Path) -> Results:
        """Read all files of an experiment.

        Raises:
            ComparisonError: a file that cannot be read, or was made with something else than is asked for today.
        """
        runs, timed = (_read(out / folder / name, name, asks) for folder in (RUNS, SECONDS))
        found = {(r["cell"], r["run"], r["steps"], r["learning_rate"], r["seed"]): r for r in runs}
        return cls(name, asks, found, {(t["cell"], t["run"], t["steps"]): t["seconds_a_site"] for t in timed})

    @property
    def primary(self) -> Metric | None:
        """What scores are of; None where there is no run."""
        return next((from_json(Metric, record["primary"]) for record in self.records.values()), None)

    def get(self, cell: str, entry: Entry, steps: int, rate: float, seed: int) -> Record | None:
        """Return a run's record, None where it was not made."""
        return self.records.get((cell, entry.run, steps, rate, seed))

    def seeds(self, cell: str, entry: Entry, steps: int, rate: float) -> list[int]:
        """Return the seeds of which there are runs."""
        return sorted(k[4] for k in self.records if k[:4] == (cell, entry.run, steps, rate))

    def validation(self, cell: str, entry: Entry, steps: int, rate: float, seeds: Iterable[int]) -> float | None:
        """Return the mean validation score of a row's model over the sites asked about and the seeds.

        None where a run is missing, or no site has validation cases. The mean is over sites in each seed, then seeds.
        """
        means = []
        for seed in seeds:
            record = self.get(cell, entry, steps, rate, seed)
            if record is None:
                return None
            found = [
                value
                for site, block in record["sites"].items()
                if site in self.asks.asked() and (value := model_of(block, entry.model)["validation"]) is not None
            ]
            if found:
                means.append(statistics.fmean(found))
        return statistics.fmean(means) if means else None

    def gain(self, cell: str, entry: Entry, steps: int, rate: float, seeds: Sequence[int]) -> float | None:
        """Return how much the served model's validation score gains in the last quarter of the rounds, mean of seeds.

        From the last validation at three quarters of the rounds, or before, to the end, at the sites asked about; those
        that come later have no rounds, and the federation's own stand for them, to their last validation.
        None of a run without rounds.
        """
        primary, gains = self.primary, []
        assert primary is not None
        for seed in seeds:
            record = self.get(cell, entry, steps, rate, seed)
            assert record is not None
            for site, course in record["course"].items():
                asked = bool(self.asks.newcomers) or site in self.asks.asked()
                if not asked or not course or course[0] is None:
                    continue
                block = record["sites"].get(site)
                last = block["models"][PERSONAL]["validation"] if block else course[-1]
                if last is not None:
                    before = course[max(0, -(-3 * len(course) // 4) - 1)]
                    gains.append(primary.goodness(last) - primary.goodness(before))
        return statistics.fmean(gains) if gains else None


def _read(folder: Path, name: str, asks: Experiment) -> list[dict[str, Any]]:
    """Return the records of an experiment's files below a folder, each made with what is asked for today."""
    found = []
    for file in sorted(folder.glob("*/*.json")):
        try:
            record = json.loads(file.read_bytes())
            job = EvidenceJob(
                experiment=name,
                cell=record["cell"],
                entry=next(e for e in asks.entries.values() if e.method and e.run == record["run"]),
                rate=record["learning_rate"],
                steps=record["steps"],
                seed=record["seed"],
                what=asks,
            )
        except (OSError, ValueError, KeyError, StopIteration) as error:
            raise ComparisonError(f"{file}: no run of {name} ({error!r}); remove it") from error
        asked = job.asked if job.cell in asks.cells else {}
        if record["format"] != FORMAT or record["asked"] != asked:
            differing = [k for k in {*asked, *record["asked"]} if asked.get(k) != record["asked"].get(k)]
            raise ComparisonError(
                f"{file}: made with another protocol ({', '.join(sorted(differing)) or 'format'}); it is no run "
                "of this one: move them away, or go back to the protocol's commit"
            )
        found.append(record)
    return found


def model_of(block: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a site's scores of a kind of model; a run on all images in one place has but the one."""
    found: Mapping[str, Any] = block["models"].get(kind) or block["models"][PERSONAL]
    return found


def seeds_of(asks: Experiment, rules: Protocol) -> tuple[int, int]:
    """Return how many seeds an experiment has, and at most."""
    return asks.seeds or rules.seeds, asks.most_seeds or rules.most_seeds


def bytes_sent(record: Record, key: str) -> float:
    """Return ``bytes_up`` or ``bytes_down`` of a run, mean of its sites."""
    return statistics.fmean(block[key] for block in record["sites"].values())
