"""What a finished run is scored on: the model served, the one before averaging, the one after further local steps."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.experiment import PERSONAL, TRAINED, TUNED
from sitelora.comparison.run import for_unseen_sites
from sitelora.data.pooled import POOLED, own_name
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.linear_probe import LinearProbe
from sitelora.evaluation.scores import case_scores
from sitelora.federation.site import Site
from sitelora.method import Model
from sitelora.run_result import CaseScore
from sitelora.settings import RunSettings
from sitelora.sharing.wire import Packet
from sitelora.task import Task
from sitelora.typed_json import from_json

Scores = dict[str, dict[str, Any]]
"""By kind of model: mean validation score, primary test score of every case by its name."""


def score_site(site: Site, packet: Packet, *, tuned_steps: int) -> Scores:
    """Score a site's models after the last round, on its own cases; further training comes last.

    The base is the same for all methods, so only where nothing is shared it is scored too.

    Args:
        packet: as of `Site.evaluate`. tuned_steps: of the model after further local steps; 0 leaves it out.
    """
    models = site.served_models(packet)
    found: Scores = {}
    kinds: dict[str, Model | str | None] = {
        "base": models["base"] if isinstance(models["unseen"], str) else None,
        PERSONAL: models[PERSONAL],
        "global": models["global"],
        TRAINED: site.trained,
    }
    for kind, model in kinds.items():
        if isinstance(model, Model):
            found[kind] = _scored(site, model)
    served = models[PERSONAL]
    assert isinstance(served, Model)
    if tuned_steps:
        found[TUNED] = _scored(site, site.local_round.further(served, steps=tuned_steps))
    return found


def score_pooled(site: Site, packet: Packet, folders: Sequence[SiteFolder]) -> dict[str, Scores]:
    """Return the scores of a run on all images in one place, by the site whose cases they are."""
    models = site.served_models(packet)
    found: dict[str, Scores] = {folder.name: {} for folder in folders}
    ordered = sorted(site.folder.cases("validation"), key=lambda case: (case["patient"], _name(site.folder, case)))
    for kind, model in ((PERSONAL, models[PERSONAL]),):
        assert isinstance(model, Model)
        validation, whole = site.scores.validation(model), _scored(site, model)["cases"]
        for folder in folders:
            own = [score for score, case in zip(validation, ordered, strict=True) if case["site"] == folder.name]
            tested = [own_name(folder.name, _name(site.folder, c)) for c in _of(site.folder, folder.name, "test")]
            found[folder.name][kind] = {
                "validation": _mean(own),
                "cases": {name: whole[f"{folder.name}_{name}"] for name in tested},
            }
    return found


def score_unseen(site: Site, packet: Packet, folders: Sequence[SiteFolder], *, pooled: bool) -> dict[str, Scores]:
    """Return the scores of the base and of what a site that never took part would get, on such sites' cases."""
    models = site.served_models(packet)
    given = for_unseen_sites(models, pooled=pooled)
    found: dict[str, Scores] = {}
    for folder in folders:
        found[folder.name] = {
            kind: {"cases": _tested(site, model, folder, fitted=False)}
            for kind, model in (("base", models["base"]), ("left_out", given))
            if isinstance(model, Model)
        }
    return found


def score_probe(run: RunSettings, folders: Sequence[SiteFolder]) -> dict[str, Any]:
    """Return what `afterwards` fills, of a linear probe at each site alone."""
    probe, found, values = LinearProbe(run), dict[str, Scores](), 0
    for folder in folders:
        told = probe.of(folder)
        assert told.test is not None
        validation, values = told.validation["score"] if told.validation else None, told.values
        found[folder.name] = {PERSONAL: {"validation": validation, "cases": _by_case(told.test, run.task)}}
    return {"sites": found, "values": values}


def afterwards(
    found: dict[str, Any], folders: Sequence[SiteFolder], unseen: Sequence[Path], *, tuned_steps: int
) -> Callable[[Mapping[str, Site], Callable[[str], Packet]], None]:
    """Return what `run_in_process` is to call at its end; it fills ``sites``, ``left_out`` and ``values``."""

    def score(sites: Mapping[str, Site], packet: Callable[[str], Packet]) -> None:
        first = next(iter(sites))
        pooled = first == POOLED
        if unseen:
            away = [SiteFolder.read(path) for path in unseen]
            found["left_out"] = score_unseen(sites[first], packet(first), away, pooled=pooled)
        found["values"] = sum(tensor.numel() for tensor in sites[first].local_round.initial.values())
        if pooled:
            found["sites"] = score_pooled(sites[first], packet(first), folders)
        else:
            found["sites"] = {n: score_site(s, packet(n), tuned_steps=tuned_steps) for n, s in sites.items()}

    return score


def _scored(site: Site, model: Model) -> dict[str, Any]:
    return {
        "validation": _mean(site.scores.validation(model)),
        "cases": _tested(site, model, site.folder),
    }


def _tested(site: Site, model: Model, folder: SiteFolder, *, fitted: bool = True) -> dict[str, float]:
    """Return the primary score of every test case, of which the plain mean is the score."""
    return _by_case(site.scores.test(model, folder, fitted=fitted, primary_only=True), site.task)


def _by_case(block: Mapping[str, Any], task: Task) -> dict[str, float]:
    cases = [from_json(CaseScore, case) for case in block["cases"]]
    scores = case_scores(cases, task.primary)
    return {case.case: round(score, 5) for case, score in zip(cases, scores, strict=True)}


def _mean(values: Sequence[float]) -> float | None:
    return round(statistics.fmean(values), 6) if values else None


def _of(folder: SiteFolder, site: str, split: str) -> list[dict[str, Any]]:
    return [case for case in folder.cases(split) if case["site"] == site]


def _name(folder: SiteFolder, case: Mapping[str, Any]) -> str:
    return folder.case_names[str(case["image"])]
