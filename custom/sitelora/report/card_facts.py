"""What a model card says of a model: one source for the Markdown beside an exported model and for the report's page.

Everything in it is read from the run's record and from what the model's file says of itself; what is not known here,
as at a site that has its own part of the run alone, is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sitelora.disk import file_sha256
from sitelora.report import findings, tables
from sitelora.report.egress import shared_table, stayed
from sitelora.report.format_values import ABSENT, bytes_text
from sitelora.report.results import Run
from sitelora.report.table import Cell, Column, Pair, Table, table_of
from sitelora.report.warnings_of_run import warnings
from sitelora.serving.model_file import made_of, trained_on

RESEARCH = (
    "For research. Not a medical device: no result is to be used for a patient without a physician's own judgement."
)
KNOWS = "{model} knows the kind of image that {site} trained on; another sequence, protocol or organ is outside of it."
LIMITS = (
    "Scores are of the hospitals that took part. Elsewhere a model is untried.",
    "A model can remember what it was trained on: treat its file as you treat the images.",
)
LEFT = "Images, labels and local tensors left no site. Sending adapters only is no privacy guarantee."
_UNKNOWN = "not known here"


@dataclass(frozen=True, kw_only=True)
class PageCard:
    """The card on a run's page: of all the models that its sites are served and that are at hand.

    Attributes:
        research, knows, limits, privacy: as on every card. facts: how they were trained.
        models: a row a model: what it was trained on, its hash. hashes: of base, bundle and settings.
    """

    research: str
    knows: str
    limits: tuple[str, ...]
    privacy: list[str]
    facts: list[Pair]
    models: Table
    hashes: list[Pair]


def page_card(run: Run) -> PageCard | None:
    """Return the card on a run's page, ``None`` where no model is at hand that says how it was made."""
    made: dict[str, Mapping[str, Any]] = {}
    for site, file in run.served_files.items():
        try:
            made[site] = made_of(file)
        except (ValueError, OSError):  # a damaged one has no card; predict and export say what is wrong with it
            continue
    made = {site: told for site, told in made.items() if told}
    if not made:
        return None
    first = next(iter(made.values()))
    ranges = {site: _ranges(told) for site, told in made.items()}
    heads = list(dict.fromkeys(pair.name for pairs in ranges.values() for pair in pairs))
    hashes = {site: file_sha256(run.served_files[site]) for site in made}
    columns = [
        Column("Model of", lambda site: Cell(site, str(made[site].get("hospital", ""))), numeric=False),
        *(Column(head, partial(_value, ranges, head), numeric=False) for head in heads),
        Column("sha256", lambda site: Cell(hashes[site][:12], hint=hashes[site]), "", "the file's", numeric=False),
    ]
    return PageCard(
        research=RESEARCH,
        knows=KNOWS.format(model="Each model", site="its site"),
        limits=LIMITS,
        privacy=_privacy(run),
        facts=_training(run, first),
        models=table_of(columns, made),
        hashes=_hashes(first),
    )


def _value(pairs: Mapping[str, list[Pair]], name: str, site: str) -> str:
    return next((pair.value for pair in pairs[site] if pair.name == name), ABSENT)


def card_facts(run: Run, made: Mapping[str, Any], site: str, kind: str, sha256: str, name: str) -> dict[str, Any]:
    """Return what `model_card.md.j2` asks for; the arguments are those of ``model_card``."""
    return {
        "name": name,
        "site": site,
        "kind": kind,
        "research": RESEARCH,
        "knows": KNOWS.format(model="It", site=site),
        "limits": LIMITS,
        "pictures": bool(made["pictures"]),
        "labels": {value: label for value, label in made["labels"].items()},
        "verdict": findings.verdict(run),
        "facts": [*_whose(run, made, site), *_training(run, made)],
        "sites": tables.site_table(run),
        "score": run.primary,
        "not_applicable": tables.not_applicable(run),
        "shared": shared_table(run),
        "stayed": stayed(run),
        "privacy": _privacy(run),
        "warnings": warnings(run),
        "ranges": _ranges(made),
        "hashes": [Pair("Model", sha256), *_hashes(made)],
    }


def _whose(run: Run, made: Mapping[str, Any], site: str) -> list[Pair]:
    served = run.served(site)
    told = {
        "Hospital": str(made.get("hospital", "")),
        "Federation": str(made.get("federation", "")),
        "Run": str(made.get("uid", "")),
        "Served": f"{served.words}: {served.why}" if served is not None else "",
        "Modality": str(made.get("modality", "")),
    }
    return [Pair(key, value) for key, value in told.items() if value]


def _training(run: Run, made: Mapping[str, Any]) -> list[Pair]:
    told = run.result
    cases = [run.cases(site).get("training") for site in run.sites]
    known = [count for count in cases if count is not None]
    arguments = ", ".join(f"{key} {value}" for key, value in dict(made.get("arguments", {})).items())
    method = f"{made.get('method', '')}{f' ({told.paper})' if told.paper else ''}"
    base = told.base.name or str(made.get("arch", ""))
    found = {
        "Took part": f"{len(run.sites)} sites with {sum(known)} training cases" if known else _UNKNOWN,
        "Rounds": f"{told.rounds_done} of {told.rounds_planned} done" if told.rounds_planned else _UNKNOWN,
        "Method": f"{method}; {arguments}" if arguments else method,
        "Settings": ", ".join(f"{key} {value}" for key, value in told.overrides.items() if key != "base"),
        "Seed": "" if told.seed is None else str(told.seed),
        "Base": f"{base}; {_licence(base)}",
        "Input": f"{made['image_size']} x {made['image_size']} pixels"
        + ("" if made["pictures"] else f", {made['slices']} slices at a time"),
        "Versions": ", ".join(f"{key} {value}" for key, value in told.versions.items()),
    }
    return [Pair(key, value) for key, value in found.items() if value]


def _licence(base: str) -> str:
    if "embedded" in base:
        return "Apache License 2.0, part of sitelora"
    if base.startswith(("vit_b (sam_", "vit_l (sam_", "vit_h (sam_")):
        return "Apache License 2.0, Meta's Segment Anything"
    return "its licence is that of whoever published it"


def _privacy(run: Run) -> list[str]:
    """Return what the job set to bound and blur updates."""
    egress = run.result.egress
    if egress is None:
        return [f"Clipping and noise: {_UNKNOWN}.", LEFT]
    sent = findings.upload_per_round(run)
    lines = [f"A site sent {bytes_text(sent)} a round."] if sent else []
    if egress.clip_norm is None:
        told = "The job clipped no update and added no noise; a site's own policy may have."
    else:
        told = f"Updates were clipped to a norm of {egress.clip_norm:g}, noise {egress.noise_std:g} times that."
    return [*lines, told, *guaranteed(run), LEFT]


def guaranteed(run: Run) -> list[str]:
    """Return what the job's noise guarantees, in words; nothing where an older record has no word of it."""
    return run.result.privacy.words if run.result.privacy is not None else []


def _ranges(made: Mapping[str, Any]) -> list[Pair]:
    ranges = trained_on(made)
    if ranges is None:
        return []
    sides = " x ".join(f"{low:g} to {high:g}" for low, high in ranges.voxel_mm)
    found = {
        "Intensities (1st to 99th percentile)": f"{ranges.lower[0]:g} to {ranges.upper[1]:g}",
        "Voxel's sides in mm, the smallest first": sides,
        "Channels": " or ".join(map(str, ranges.channels)),
    }
    return [Pair(key, value) for key, value in found.items() if value]


def _hashes(made: Mapping[str, Any]) -> list[Pair]:
    keys = {"Base": "base_sha256", "Bundle": "bundle_sha256", "Settings": "settings_sha256"}
    return [Pair(name, str(made[key])) for name, key in keys.items() if made.get(key)]
