"""Everything that the page says of a run, as plain facts by name; the templates add the words that never change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sitelora.report import card_facts, costs, egress, figures, findings, server_figures, set_scores, tables
from sitelora.report.compare_two_runs import beside_pairs
from sitelora.report.format_values import bytes_text, listed, seconds_text
from sitelora.report.overlay_image import inlined_png
from sitelora.report.results import Overlay, Run
from sitelora.report.style import model_style
from sitelora.report.table import Pair
from sitelora.report.warnings_of_run import warnings
from sitelora.run_result import SiteFacts


class Mark(NamedTuple):
    """One line of a legend: a tone, a marker, and what they stand for."""

    tone: str
    marker: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Album:
    """One site's pictures, each with itself as a ``data:`` address."""

    site: str
    hospital: str
    overlays: Sequence[tuple[Overlay, str]]


def page_facts(run: Run) -> dict[str, Any]:
    """Return what `page.html.j2` asks for; what is empty or ``None`` has no place on the page.

    Raises:
        ReportError: an overlay is not a readable picture.
    """
    told = run.result
    method = f"method {told.method}{f' ({told.paper})' if told.paper else ''}" if told.method else ""
    metrics = {name for each in run.rounds for entry in each.sites.values() for name in entry.metrics}
    return {
        "title": told.federation or "Federation",
        "subtitle": " · ".join(part for part in (method, f"data {told.dataset}" if told.dataset else "") if part),
        "verdict": findings.verdict(run),
        "tiles": _tiles(run),
        "setup": _setup(run),
        "warnings": warnings(run),
        "score": run.primary,
        "metrics": run.metrics,
        "further": listed(list(dict.fromkeys(each.title for each in tables.further_metrics(run)))),
        "models": [_mark(model) for model in findings.scored_models(run)],
        "final_scores": figures.final_scores(run),
        "site_table": tables.site_table(run),
        "beside": run.beside,
        "set_table": set_scores.set_table(run),
        "decisions": set_scores.decisions(run),
        "plots": set_scores.plots(run),
        "not_applicable": tables.not_applicable(run),
        "served": "score_served" in metrics,
        "curves": _curves(metrics),
        "panels": [panel for site in run.sites if (panel := figures.score_by_round(run, site))],
        "round_site_table": tables.round_site_table(run),
        "round_table": tables.round_table(run),
        "meter": server_figures.heterogeneity(run),
        "matrices": server_figures.similarity(run),
        "full_model_bytes": costs.full_model_bytes(run),
        "bytes_in_all": figures.bytes_in_all(run),
        "bytes_by_round": figures.bytes_by_round(run),
        "segmented": figures.segmented(run),
        "traffic_table": egress.traffic_table(run),
        "begin_bytes": costs.begin_bytes(run),
        "shared_table": egress.shared_table(run),
        "stayed": egress.stayed(run),
        "guaranteed": card_facts.guaranteed(run),
        "case_leaves": run.task.leaves if run.task else "",
        "case_stays": run.task.stays if run.task else "images, labels",
        "outlines": findings.outlines(run),
        "album": run.task.album if run.task else None,
        "albums": [
            Album(site=site, hospital=run.hospital(site), overlays=[(each, inlined_png(each)) for each in overlays])
            for site, overlays in run.overlays.items()
        ],
        "main_model": findings.main_model(run),
        "case_table": tables.case_table(run),
        "card": card_facts.page_card(run),
    }


def _tiles(run: Run) -> list[Pair]:
    """Return the numbers to remember."""
    tiles = []
    if (main := findings.main_model(run)) is not None:
        scored = "base" in findings.scored_models(run)
        remark = "mean over sites" + (f"; base {findings.mean_text(run, 'base')}" if scored else "")
        if beside_pairs(run):
            remark += f"; {run.beside} {findings.mean_text(run, run.beside)}"
        name = f"{run.primary.title}, {model_style(main).short.lower()} model"
        tiles.append(Pair(name, findings.mean_text(run, main), remark))
    if run.rounds:
        times = [each.seconds for each in run.rounds if each.seconds is not None]
        remark = f"{seconds_text(sum(times))} in all" if times else ""
        tiles.append(Pair("Rounds done", f"{run.result.rounds_done} of {run.result.rounds_planned or '?'}", remark))
        always = sum(all(site in findings.attended(each) for each in run.rounds) for site in run.sites)
        tiles.append(Pair("Sites", str(len(run.sites)), f"{always} took part in every round"))
    if (sent := findings.upload_per_round(run)) is not None:
        full = costs.full_model_bytes(run)
        remark = f"{costs.ratio_text(full / sent)} of full fine-tuning ({bytes_text(full)})" if full else ""
        tiles.append(Pair("Sent a round by a site", bytes_text(sent), remark))
    return tiles


def _setup(run: Run) -> list[Pair]:
    """Return what is needed to run it again."""
    told, base = run.result, run.result.base
    sha256 = f"(sha256 {base.sha256[:12]})" if base.sha256 else ""
    found = {
        "Bundle": told.bundle,
        "Base": " ".join(part for part in (base.name, sha256) if part),
        "Input size": f"{told.image_size} × {told.image_size} pixels" if told.image_size is not None else "",
        "Seed": "" if told.seed is None else str(told.seed),
        "Hardware": _all_hardware(run),
        "Versions": ", ".join(f"{name} {version}" for name, version in told.versions.items()),
        "Run": told.uid,
        "Result written": run.written,
    }
    return [Pair(name, value) for name, value in found.items() if value]


def _all_hardware(run: Run) -> str:
    """Return the hardware and what a site has set for itself, by site where they differ."""
    by_site = {site: _of_site(run.result.sites[site]) for site in run.sites if site in run.result.sites}
    kinds = list(dict.fromkeys(text for text in by_site.values() if text))
    if len(kinds) < 2:
        return kinds[0] if kinds else _hardware(run.result.hardware)
    return "; ".join(f"{listed([s for s in by_site if by_site[s] == kind])}: {kind}" for kind in kinds)


def _of_site(site: SiteFacts) -> str:
    own = _named(site.own_settings)
    return ", ".join(part for part in (_hardware(site.hardware), f"set at the site: {own}" if own else "") if part)


def _hardware(hardware: Mapping[str, Any]) -> str:
    cores, threads = hardware.get("cores"), hardware.get("torch_threads")
    parts = [str(hardware.get("machine") or ""), f"{cores} cores" if cores is not None else ""]
    parts += [f"{threads} torch thread{'' if threads == 1 else 's'}" if threads is not None else ""]
    parts += [_named({k: v for k, v in hardware.items() if k not in ("machine", "cores", "torch_threads")})]
    return ", ".join(part for part in parts if part)


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _mark(model: str) -> Mark:
    look = model_style(model)
    return Mark(look.tone, look.marker, look.words)


def _curves(metrics: set[str]) -> list[Mark]:
    """Return the legend of the curves by round: the served model is a band, a round without an update a cross."""
    curves = {
        "score_received": _mark("received"),
        "score_personal": _mark("trained"),
        "score_served": Mark("personal", "band", "Served after the round"),
    }
    missed = Mark("alert", "x", "Round without an update")
    return [*(mark for metric, mark in curves.items() if metric in metrics), missed]
