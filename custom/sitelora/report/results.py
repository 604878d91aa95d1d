"""What one run left behind, read from `server/result.json` and the sites' own evaluations into one value.

Absent keys are normal (a run cut short, a site that sees only its own folder); a key of another type is not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from sitelora.evaluation.scores import summarise
from sitelora.federation.run_folder import RunFolder
from sitelora.report.artificial import artificial_sites
from sitelora.report.style import MODELS
from sitelora.run_result import ModelScore, Round, RunResult, RunResultError, ServedModel, natural
from sitelora.typed_json import TypedJsonError, from_json

T = TypeVar("T")


class ReportError(RunResultError):
    """A run that cannot be shown."""


@dataclass(frozen=True, kw_only=True)
class ListedPicture:
    """A picture as a site's own evaluation lists it."""

    file: str = ""
    case: str = ""
    which: str = ""
    model: str = ""
    dice: float | None = None


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A picture of one case; ``path`` exists."""

    path: Path
    case: str = ""
    which: str = ""
    model: str = ""
    dice: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything the report shows.

    Attributes:
        result: the record of the run; without any (``has_result``) one that tells nothing.
        rounds, evaluation: from it and from the sites' own files, sites in natural order.
        artificial: sites whose data was drawn.
        beside: name in ``evaluation`` of the model of another run; empty without one.
        beside_notes: what makes the comparison with that run unfair.
    """

    result: RunResult
    has_result: bool
    sites: Sequence[str]
    rounds: Sequence[Round]
    evaluation: Mapping[str, Mapping[str, ModelScore]]
    overlays: Mapping[str, Sequence[Overlay]]
    notes: Sequence[str]
    written: str = ""
    artificial: Sequence[str] = ()
    beside: str = ""
    beside_notes: Sequence[str] = ()

    @property
    def models(self) -> list[str]:
        """Names of the models that some site scored or declared not applicable, in reading order."""
        found = {name for scores in self.evaluation.values() for name in scores}
        order = [name for known in MODELS for name in ((self.beside, known) if known == "personal" else (known,))]
        return [name for name in order if name in found] + sorted(found - set(order))

    def dice(self, site: str, model: str) -> float | None:
        """Return a model's Dice at a site, ``None`` where it has none."""
        score = self.evaluation.get(site, {}).get(model)
        return None if score is None else score.dice

    def dice_pairs(self, one: str, two: str) -> dict[str, tuple[float, float]]:
        """Return the Dice of two models, by site that has both."""
        found = {site: (self.dice(site, one), self.dice(site, two)) for site in self.evaluation}
        return {site: (a, b) for site, (a, b) in found.items() if a is not None and b is not None}

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
    own = {who: _load(run.scores(who)) for who in run.participants() if run.scores(who).is_file()}
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
    evaluation = {
        site: {
            **{kind: _completed(score) for kind, score in told.evaluation.get(site, {}).items()},
            **_scores(own.get(site, {}), run.scores(site)),
        }
        for site in sites
    }
    at_hand = [site for site in sites if site in own or site in folders]  # a name never leads outside the run
    pictures = {site: _overlays(run.overlays(site), own.get(site, {}), notes) for site in at_hand}
    return Run(
        result=told,
        has_result=result.is_file(),
        sites=sites,
        rounds=rounds,
        evaluation={site: scores for site, scores in evaluation.items() if scores},
        overlays={site: found for site, found in pictures.items() if found},
        notes=notes,
        written=_written(result),
        artificial=artificial_sites(run_dir, told.sites),
    )


def _written(path: Path) -> str:
    """Return when a file was written, in UTC; empty when it is absent."""
    if not path.is_file():
        return ""
    return f"{datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc):%Y-%m-%d %H:%M} UTC"


def _load(path: Path) -> dict[str, Any]:
    """Read one JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path} is not readable JSON ({error}): was the run stopped while writing it?") from error
    if not isinstance(value, dict):
        raise ReportError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


def _scores(block: Mapping[str, Any], path: Path) -> dict[str, ModelScore]:
    """Read the models of a site's own file; its other keys are not models."""
    found = {
        name: value
        for name, value in block.items()
        if isinstance(value, Mapping) and value.keys() & {"dice", "cases", "not_applicable"}
    }
    return {name: _completed(_typed(ModelScore, value, path, name)) for name, value in found.items()}


def _completed(score: ModelScore) -> ModelScore:
    """Return a score with what can be computed from its cases where the file does not tell it."""
    cases = [case for case in score.cases if math.isfinite(case.dice)]
    if not cases or score.dice is not None:
        return score
    found = summarise(cases)
    return replace(score, **{key: found[key] for key in ("dice", "dice_ci95", "patient_count")})


def _typed(kind: type[T], value: object, path: Path, key: str) -> T:
    try:
        return from_json(kind, value, key)
    except TypedJsonError as error:
        raise ReportError(f"{path}: {error}") from error


def _overlays(pictures: Path, block: Mapping[str, Any], notes: list[str]) -> list[Overlay]:
    """List a site's pictures: those its evaluation names, then those that merely lie there."""
    folder, found = pictures.parent, dict[Path, Overlay]()
    for place, value in enumerate(block.get("overlays") or ()):
        told = _typed(ListedPicture, value, folder, f"overlays[{place}]")
        path = (folder / told.file).resolve()
        if not path.is_relative_to(folder.resolve()) or path.suffix != ".png" or not path.is_file():
            notes.append(
                f"{folder.parent.name}: overlay {told.file!r} is not a PNG inside its evaluation folder; left out."
            )
            continue
        found[path] = Overlay(path=path, case=told.case, which=told.which, model=told.model, dice=told.dice)
    for path in sorted(pictures.glob("*.png")):
        found.setdefault(path.resolve(), Overlay(path=path.resolve(), case=path.stem))
    return list(found.values())
