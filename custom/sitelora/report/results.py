"""What one run left behind, read from `server/result.json` and the sites' own evaluations into one value.

Absent keys are normal (a run cut short, a site that sees only its own folder); a key of another type is not.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sitelora.evaluation.scores import summarise
from sitelora.federation.events import read_events
from sitelora.federation.run_folder import RunFolder
from sitelora.metric import UNKNOWN, Metric, primary_of
from sitelora.names import natural
from sitelora.report.style import MODELS
from sitelora.run_result import ModelScore, Round, RunResult, RunResultError, ServedModel
from sitelora.task import Task
from sitelora.task_registry import find_task
from sitelora.typed_json import REST, TypedJsonError, from_json
from sitelora.value_kinds import SettingsError

DRAWN = "artificial_data"
"""The event of a site whose data was drawn."""


class ReportError(RunResultError):
    """A run that cannot be shown."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A picture of one case, as a site's own evaluation lists it; in a :class:`Run`, ``file`` is absolute and there."""

    file: str = ""
    case: str = ""
    which: str = ""
    model: str = ""
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class SiteEvaluation:
    """What a site's own `evaluation.json` says."""

    task: str = ""
    primary: str = UNKNOWN.name
    metrics: Sequence[Metric] = ()
    overlays: Sequence[Overlay] = ()
    models: Mapping[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything the report shows.

    Attributes:
        result: the record of the run; without any (``has_result``) one that tells nothing.
        task: what was learnt; None where the record names none that is known here.
        primary: what scores are of. metrics: all that the run may tell.
        rounds, evaluation: from it and from the sites' own files, sites in natural order.
        artificial: sites whose data was drawn.
        served_files: the models that sites are served, of the sites that are at hand.
        beside: name in ``evaluation`` of the model of another run; empty without one.
        beside_notes: what makes the comparison with that run unfair.
    """

    result: RunResult
    has_result: bool
    task: Task | None
    primary: Metric
    metrics: Sequence[Metric]
    sites: Sequence[str]
    rounds: Sequence[Round]
    evaluation: Mapping[str, Mapping[str, ModelScore]]
    overlays: Mapping[str, Sequence[Overlay]]
    notes: Sequence[str]
    written: str = ""
    artificial: Sequence[str] = ()
    served_files: Mapping[str, Path] = field(default_factory=dict)
    beside: str = ""
    beside_notes: Sequence[str] = ()

    @property
    def models(self) -> list[str]:
        """Names of the models that some site scored or declared not applicable, in reading order."""
        found = {name for scores in self.evaluation.values() for name in scores}
        order = [name for known in MODELS for name in ((self.beside, known) if known == "personal" else (known,))]
        return [name for name in order if name in found] + sorted(found - set(order))

    def score(self, site: str, model: str) -> float | None:
        """Return a model's primary score at a site, ``None`` where it has none."""
        found = self.evaluation.get(site, {}).get(model)
        return None if found is None else found.score

    def score_pairs(self, one: str, two: str) -> dict[str, tuple[float, float]]:
        """Return the scores of two models, by site that has both."""
        found = {site: (self.score(site, one), self.score(site, two)) for site in self.evaluation}
        return {site: (a, b) for site, (a, b) in found.items() if a is not None and b is not None}

    def course(self, site: str, metric: str) -> list[float | None]:
        """Return a metric of a site by round, ``None`` where it has none."""
        return [each.sites[site].metrics.get(metric) if site in each.sites else None for each in self.rounds]

    def served(self, site: str) -> ServedModel | None:
        """Return which model a site is served, ``None`` where the record does not say."""
        score = self.evaluation.get(site, {}).get("personal")
        return None if score is None else score.served

    def cases(self, site: str) -> Mapping[str, int]:
        """Return how many cases a site said it has, by split; empty where it is not told."""
        told = self.result.sites.get(site)
        return {} if told is None else told.cases

    def hospital(self, site: str) -> str:
        """Return the hospital behind a site's name, empty when it is not told or the same."""
        told = self.result.sites.get(site)
        return "" if told is None or told.hospital == site else told.hospital


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there, ``None`` without any."""
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present else None


def read_run(run_dir: Path) -> Run:
    """Read one run.

    Args:
        run_dir: its folder, or what `nvflare job download` left: the job's folder, or ``workspace`` in it.

    Raises:
        ReportError: the folder holds no result at all, or a file is broken or of an unknown format.
    """
    run, notes = RunFolder(run_dir), []
    # a job that was downloaded holds the record in its workspace, or by itself
    places = [run.result, run.workspace / run.result.name, run_dir / run.result.name]
    result = next((path for path in places if path.is_file()), places[0])
    own = {who: _site_evaluation(run.scores(who)) for who in run.participants() if run.scores(who).is_file()}
    if not result.is_file() and not own:
        raise ReportError(
            f"{run_dir} holds neither server/result.json nor <site>/evaluation/evaluation.json: pass the "
            "folder of a run that has finished at least its first round"
        )
    if not result.is_file():
        notes.append("There is no server/result.json here: this page knows only what the sites in this folder know.")
    try:
        told = RunResult.read(result) if result.is_file() else RunResult()
    except RunResultError as error:
        raise ReportError(str(error)) from error
    rounds = [
        replace(each, sites={site: each.sites[site] for site in sorted(each.sites, key=natural)})
        for each in told.rounds
    ]
    folders = {who for who in run.participants() if run.overlays(who).is_dir()}
    trained = {site for each in rounds for site in each.sites}
    sites = sorted({*told.sites, *trained, *told.evaluation, *own, *folders}, key=natural)
    nothing = SiteEvaluation()
    scores = {site: {**told.evaluation.get(site, {}), **own.get(site, nothing).models} for site in sites}
    metrics = told.metrics or next((each.metrics for each in own.values() if each.metrics), ())
    named = told.primary if told.metrics else next((each.primary for each in own.values()), told.primary)
    primary = primary_of(named, metrics)
    at_hand = [site for site in sites if site in own or site in folders]  # a name never leads outside the run
    pictures = {site: _overlays(run.overlays(site), own.get(site, nothing).overlays, notes) for site in at_hand}
    return Run(
        result=told,
        has_result=result.is_file(),
        task=_task(told.task or next((each.task for each in own.values()), "")),
        primary=primary,
        metrics=metrics,
        sites=sites,
        rounds=rounds,
        evaluation={s: {kind: _completed(score, primary) for kind, score in m.items()} for s, m in scores.items() if m},
        overlays={site: found for site, found in pictures.items() if found},
        notes=notes,
        written=_written(result),
        artificial=_artificial(run, told),
        served_files={site: file for site in at_hand if (file := run.personal_model(site)).is_file()},
    )


def _task(name: str) -> Task | None:
    try:
        return find_task(name)
    except SettingsError:  # of a house that has a task more than this one
        return None


def _artificial(run: RunFolder, told: RunResult) -> list[str]:
    """Return the sites whose data was drawn: what a phantom scores says nothing about patients, so a page must say it.

    Two signs, each of which counts: the simulator noted that it drew a phantom for want of data; the hospital's name
    begins with "phantom", as the phantom's own folders do.
    """
    named = {site for site, facts in told.sites.items() if facts.hospital.lower().startswith("phantom")}
    noted = {who for who in run.participants() for event in read_events(run.events(who)) if event["event"] == DRAWN}
    return sorted(named | noted)


def _written(path: Path) -> str:
    """Return when a file was written, in UTC; empty when it is absent."""
    if not path.is_file():
        return ""
    return f"{datetime.fromtimestamp(path.stat().st_mtime, tz=UTC):%Y-%m-%d %H:%M} UTC"


def _site_evaluation(path: Path) -> SiteEvaluation:
    """Read a site's own file; of what it holds beside its pictures, objects are models."""
    try:
        told = from_json(SiteEvaluation, json.loads(path.read_bytes()))
        blocks = {name: block for name, block in told.models.items() if isinstance(block, Mapping)}
        return replace(told, models={name: from_json(ModelScore, block, name) for name, block in blocks.items()})
    except TypedJsonError as error:
        raise ReportError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not readable JSON ({error}): was the run stopped while writing it?") from error


def _completed(score: ModelScore, primary: Metric) -> ModelScore:
    """Return a score with what can be computed from its cases where the file does not tell it."""
    cases = [case for case in score.cases if math.isfinite(case.mean(primary.name))]
    if not cases or score.score is not None:
        return score
    found = summarise(cases, primary)
    return replace(score, **{key: found[key] for key in ("score", "score_ci95", "patient_count")})


def _overlays(pictures: Path, told: Sequence[Overlay], notes: list[str]) -> list[Overlay]:
    """Return a site's pictures: those its evaluation names, then those that merely lie there."""
    folder, found = pictures.parent.resolve(), dict[Path, Overlay]()
    for each in told:
        path = (folder / each.file).resolve()
        if path.is_relative_to(folder) and path.suffix == ".png" and path.is_file():
            found[path] = replace(each, file=str(path))
        else:
            where = f"{pictures.parent.parent.name}: overlay {each.file!r}"
            notes.append(f"{where} is not a PNG inside its evaluation folder; left out.")
    for path in sorted(file.resolve() for file in pictures.glob("*.png")):
        found.setdefault(path, Overlay(file=str(path), case=path.stem))
    return list(found.values())
