"""The model card of one model of a run, in Markdown: after Mitchell et al., "Model cards for model reporting", 2019.

Everything in it is read from the run's record and from what the model's file says of itself; what is not known here,
as at a site that has its own part of the run alone, is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sitelora.data.trained_on import TrainedOn
from sitelora.report import findings, tables
from sitelora.report.egress import shared_table, stayed
from sitelora.report.facts import Pair
from sitelora.report.format_values import bytes_text
from sitelora.report.results import Run
from sitelora.report.table import Table
from sitelora.report.warnings_of_run import warnings

_UNKNOWN = "not known here"


def model_card(run: Run, made: Mapping[str, Any], *, site: str, kind: str, sha256: str, name: str) -> str:
    """Return the card.

    Args:
        run: what the run left, as far as it is at hand. made: what the model's file says of itself.
        site: whose model it is. kind: "personal", "global" or "unseen". sha256: of the file. name: of the bundle.
    """
    templates = Environment(
        loader=PackageLoader("sitelora.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["cell"] = _cell
    return templates.get_template("model_card.md.j2").render(card_facts(run, made, site, kind, sha256, name))


def card_facts(run: Run, made: Mapping[str, Any], site: str, kind: str, sha256: str, name: str) -> dict[str, Any]:
    """Return what `model_card.md.j2` asks for."""
    return {
        "name": name,
        "site": site,
        "kind": kind,
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
        "hashes": _hashes(made, sha256),
        "row": _row,
        "rows": _rows,
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
        "Settings": ", ".join(f"{key} {value}" for key, value in told.overrides.items()),
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
        return [f"Clipping and noise: {_UNKNOWN}."]
    sent = findings.upload_per_round(run)
    lines = [f"A site sent {bytes_text(sent)} a round."] if sent else []
    if egress.clip_norm is None:
        return [*lines, "The job clipped no update and added no noise; a site's own policy may have."]
    return [*lines, f"Updates were clipped to a norm of {egress.clip_norm:g}, noise {egress.noise_std:g} times that."]


def _ranges(made: Mapping[str, Any]) -> list[Pair]:
    if "trained_on" not in made:
        return []
    ranges = TrainedOn.from_plain(made["trained_on"])
    sides = " x ".join(f"{low:g} to {high:g}" for low, high in ranges.voxel_mm)
    found = {
        "Intensities (1st to 99th percentile)": f"{ranges.lower[0]:g} to {ranges.upper[1]:g}",
        "Voxel's sides in mm, the smallest first": sides,
        "Channels": " or ".join(map(str, ranges.channels)),
    }
    return [Pair(key, value) for key, value in found.items() if value]


def _hashes(made: Mapping[str, Any], sha256: str) -> list[Pair]:
    keys = {"Base": "base_sha256", "Bundle": "bundle_sha256", "Settings": "settings_sha256"}
    return [Pair("Model", sha256), *(Pair(name, str(made[key])) for name, key in keys.items() if made.get(key))]


def _rows(table: Table) -> list[Sequence[str]]:
    """Return the rows of a table, with what stands small in a cell behind a comma, and its last row."""
    rows: list[Sequence[str]] = []
    for row in table.rows:
        rows.append([", ".join(part for part in (cell.text, cell.small) if part) for cell in row])
    return [*rows, [cell.text for cell in table.footer]] if table.footer else rows


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: object) -> str:
    """Return a text that ends no cell and begins no markup."""
    plain = " ".join(str(text).split())
    for sign in "\\|<>[]*_`":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
