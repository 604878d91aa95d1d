"""The page's first screen: name, verdict in plain words, the few numbers that matter, facts, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from sitelora.report.compare_two_runs import beside_pairs
from sitelora.report.costs import full_model_bytes, ratio_text
from sitelora.report.findings import (
    attended,
    main_model,
    mean_dice,
    upload_per_round,
    verdict,
)
from sitelora.report.format_values import bytes_text, count_text, dice_text, listed, seconds_text
from sitelora.report.results import Run
from sitelora.report.style import SHORT
from sitelora.report.warnings_of_run import warnings
from sitelora.run_result import Base, SiteFacts


def header(run: Run) -> str:
    """Return everything above the first chapter."""
    facts = run.result
    paper = f" ({facts.paper})" if facts.paper else ""
    method = f"method {facts.method}{paper}" if facts.method else ""
    told = " · ".join(part for part in (method, f"data {facts.dataset}" if facts.dataset else "") if part)
    parts = [
        '<header>\n<p class="eyebrow">SiteLoRA federation report</p>',
        f"<h1>{escape(facts.federation or 'Federation')}</h1>",
        f'<p class="sub">{escape(told)}</p>' if told else "",
        f'<p class="verdict">{escape(verdict(run))}</p>',
        _tiles(run),
        _facts(run),
        "</header>",
        _warnings(run),
    ]
    return "\n".join(part for part in parts if part)


def _tiles(run: Run) -> str:
    """Return the four numbers to remember."""
    tiles = []
    main = main_model(run)
    if main is not None:
        base = mean_dice(run, "base")
        beside = "mean over sites" + (f"; base {dice_text(base)}" if base is not None else "")
        if beside_pairs(run):
            beside += f"; {run.beside} {dice_text(mean_dice(run, run.beside))}"
        tiles.append((f"Dice, {SHORT.get(main, main).lower()} model", dice_text(mean_dice(run, main)), beside))
    if run.rounds:
        times = [each.seconds for each in run.rounds if each.seconds is not None]
        beside = f"{seconds_text(sum(times))} in all" if times else ""
        tiles.append(("Rounds done", f"{run.result.rounds_done} of {run.result.rounds_planned or '?'}", beside))
        always = sum(all(site in attended(each) for each in run.rounds) for site in run.sites)
        tiles.append(("Sites", str(len(run.sites)), f"{always} took part in every round"))
    sent, full = upload_per_round(run), full_model_bytes(run)
    if sent is not None:
        beside = f"{ratio_text(full / sent)} of full fine-tuning ({bytes_text(full)})" if full else ""
        tiles.append(("Sent a round by a site", bytes_text(sent), beside))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(beside)}</small></dd></div>"
        for name, value, beside in tiles
    )
    return f'<dl class="tiles">{cells}</dl>' if tiles else ""


def _facts(run: Run) -> str:
    """Return what is needed to run it again."""
    facts, size = run.result, run.result.image_size
    told = {
        "Bundle": facts.bundle,
        "Base": _base(facts.base),
        "Input size": f"{size} × {size} pixels" if size is not None else None,
        "Seed": facts.seed,
        "Hardware": _all_hardware(run),
        "Versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        "Run": facts.uid,
        "Result written": run.written,
    }
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in told.items()
        if value not in (None, "")
    )
    return f'<dl class="facts">{cells}</dl>' if cells else ""


def _base(base: Base) -> str:
    return " ".join(part for part in (base.name, f"(sha256 {base.sha256[:12]})" if base.sha256 else "") if part)


def _all_hardware(run: Run) -> str:
    """Return the hardware and what a site has set for itself, by site where they differ."""
    sites = run.result.sites
    by_site = {site: _of_site(sites[site]) for site in run.sites if site in sites}
    kinds = list(dict.fromkeys(text for text in by_site.values() if text))
    if len(kinds) < 2:
        return kinds[0] if kinds else _hardware(run.result.hardware)
    return "; ".join(f"{listed([s for s in by_site if by_site[s] == kind])}: {kind}" for kind in kinds)


def _of_site(site: SiteFacts) -> str:
    own = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in site.own_settings.items())
    return ", ".join(part for part in (_hardware(site.hardware), f"set at the site: {own}" if own else "") if part)


def _hardware(hardware: Mapping[str, Any]) -> str:
    cores, threads = hardware.get("cores"), hardware.get("torch_threads")
    known = {"machine", "cores", "torch_threads"}
    parts = [str(hardware.get("machine") or ""), f"{cores} cores" if cores is not None else ""]
    parts += [f"{threads} torch thread{'' if threads == 1 else 's'}" if threads is not None else ""]
    parts += [f"{name.replace('_', ' ')} {value}" for name, value in hardware.items() if name not in known]
    return ", ".join(part for part in parts if part)


def _warnings(run: Run) -> str:
    """Return the box of warnings, or one quiet line."""
    lines = warnings(run)
    if not lines:
        return '<p class="note">No warnings.</p>'
    points = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section class="warnings"><h2>{count_text(len(lines), "warning")}</h2><ul>{points}</ul></section>'
