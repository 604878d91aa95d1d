"""What one run left behind, read from `server/result.json` and the sites' own evaluations into one value.

Absent keys are normal (a run cut short, a site that sees only its own folder); a key of another type is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sitelora.evaluation.scores import CaseScore, summarise
from sitelora.federation.run_folder import RunFolder
from sitelora.report.artificial import artificial_sites
from sitelora.report.style import MODELS
from sitelora.run_result import Round, RunResultError, ServedModel, items, mapping, natural, number, objects, read_round

FORMAT = 1


class ReportError(RunResultError):
    """A run that cannot be shown."""


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """The score of one model at one site, or why it has none."""

    dice: float | None = None
    interval: tuple[float, float] | None = None
    patient_count: int | None = None
    cases: Sequence[CaseScore] = ()
    not_applicable: str | None = None
    served: ServedModel | None = None


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
    """Everything the report shows; ``facts`` is the top level of `result.json` as it was written.

    Attributes:
        artificial: sites whose data was drawn.
        beside: name in ``evaluation`` of the model of another run; empty without one.
        beside_notes: what makes the comparison with that run unfair.
    """

    facts: Mapping[str, Any]
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

    def hospital(self, site: str) -> str:
        """Return the hospital behind a site's name, empty when it is not told or the same."""
        hospital = str(mapping(mapping(self.facts, "sites"), site).get("hospital") or "")
        return "" if hospital == site else hospital


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
    facts = _load(result) if result.is_file() else {}
    if not facts:
        notes.append("There is no server/result.json here: this page knows only what the sites in this folder know.")
    if facts.get("format", FORMAT) != FORMAT:
        raise ReportError(f"{result} has format {facts['format']!r}, expected {FORMAT}: report it with that version")
    try:
        rounds = [read_round(value, position) for position, value in enumerate(objects(facts, "rounds"))]
    except RunResultError as error:
        raise ReportError(f"{result}: {error}") from error
    scored = mapping(facts, "evaluation")
    folders = {who for who in run.participants() if run.overlays(who).is_dir()}
    trained = {site for each in rounds for site in each.sites}
    sites = sorted({*mapping(facts, "sites"), *trained, *scored, *own, *folders}, key=natural)
    blocks = {site: {**mapping(scored, site), **own.get(site, {})} for site in sites}
    evaluation = {site: _scores(block, site) for site, block in blocks.items()}
    at_hand = [site for site in sites if site in own or site in folders]  # a name never leads outside the run
    pictures = {site: _overlays(run.overlays(site), own.get(site, {}), notes) for site in at_hand}
    return Run(
        facts=facts,
        sites=sites,
        rounds=rounds,
        evaluation={site: scores for site, scores in evaluation.items() if scores},
        overlays={site: found for site, found in pictures.items() if found},
        notes=notes,
        written=_written(result),
        artificial=artificial_sites(run_dir, mapping(facts, "sites")),
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


def _scores(block: Mapping[str, Any], site: str) -> dict[str, ModelScore]:
    """Read the models of one site; other keys of the block are not models."""
    scores = {}
    for name, value in block.items():
        if isinstance(value, Mapping) and value.keys() & {"dice", "cases", "not_applicable"}:
            scores[name] = _score(value, where=f"evaluation of {name} at {site}")
    return scores


def _score(value: Mapping[str, Any], *, where: str) -> ModelScore:
    """Read one model's block; summary and interval are computed from the cases where the file has none."""
    if value.get("not_applicable"):
        return ModelScore(not_applicable=str(value["not_applicable"]))
    try:
        cases = [_case(case) for case in objects(value, "cases")]
        interval = [number(end) for end in items(value, "dice_ci95")]
    except RunResultError as error:
        raise ReportError(f"{where}: {error}") from error
    scored = [case for case in cases if number(case.dice) is not None]
    summary = {**(summarise(scored) if scored else {}), **value}
    low, high = interval if len(interval) == 2 else summary.get("dice_ci95") or (None, None)
    patients = number(summary.get("patient_count"))
    return ModelScore(
        served=ServedModel.from_json(served, where=where) if (served := mapping(value, "served")) else None,
        dice=number(summary.get("dice")),
        interval=None if low is None or high is None else (low, high),
        patient_count=None if patients is None else int(patients),
        cases=cases,
    )


def _case(value: Mapping[str, Any]) -> CaseScore:
    """Read one case; a metric that is not a finite number is undefined."""
    metrics = mapping(value, "metrics")
    read = {label: {name: number(v) for name, v in mapping(metrics, label).items()} for label in metrics}
    return CaseScore.from_json({**value, "metrics": read})


def _overlays(pictures: Path, block: Mapping[str, Any], notes: list[str]) -> list[Overlay]:
    """List a site's pictures: those its evaluation names, then those that merely lie there."""
    folder, found = pictures.parent, dict[Path, Overlay]()
    for entry in objects(block, "overlays"):
        told = str(entry.get("file") or "")
        path = (folder / told).resolve()
        if not path.is_relative_to(folder.resolve()) or path.suffix != ".png" or not path.is_file():
            notes.append(f"{folder.parent.name}: overlay {told!r} is not a PNG inside its evaluation folder; left out.")
            continue
        words = {key: str(entry.get(key) or "") for key in ("case", "which", "model")}
        found[path] = Overlay(path=path, dice=number(entry.get("dice")), **words)
    for path in sorted(pictures.glob("*.png")):
        found.setdefault(path.resolve(), Overlay(path=path.resolve(), case=path.stem))
    return list(found.values())
