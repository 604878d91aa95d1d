"""The page's first screen: name, verdict in plain words, the few numbers that matter, facts, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from sitelora.report.beside import beside_pairs
from sitelora.report.costs import full_model_bytes, ratio_text
from sitelora.report.findings import (
    attended,
    main_model,
    mean_dice,
    planned_rounds,
    rounds_done,
    upload_per_round,
    verdict,
)
from sitelora.report.results import Run
from sitelora.report.style import SHORT
from sitelora.report.warned import warnings
from sitelora.report.words import bytes_text, count_text, dice_text, listed, seconds_text
from sitelora.run_result import mapping, number


def header(run: Run) -> str:
    """Return everything above the first chapter."""
    facts = run.facts
    paper = f" ({facts['paper']})" if facts.get("paper") else ""
    method = f"method {facts['method']}{paper}" if facts.get("method") else ""
    told = " · ".join(part for part in (method, f"data {facts['dataset']}" if facts.get("dataset") else "") if part)
    parts = [
        '<header>\n<p class="eyebrow">SiteLoRA federation report</p>',
        f"<h1>{escape(str(facts.get('federation') or 'Federation'))}</h1>",
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
        planned = planned_rounds(run)
        times = [each.seconds for each in run.rounds if each.seconds is not None]
        beside = f"{seconds_text(sum(times))} in all" if times else ""
        tiles.append(("Rounds done", f"{rounds_done(run)} of {planned or '?'}", beside))
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
    facts = run.facts
    size = number(facts.get("image_size"))
    told = {
        "Bundle": facts.get("bundle"),
        "Base": _base(mapping(facts, "base")),
        "Input size": f"{size:.0f} × {size:.0f} pixels" if size is not None else None,
        "Seed": facts.get("seed"),
        "Hardware": _all_hardware(run),
        "Versions": ", ".join(f"{name} {version}" for name, version in mapping(facts, "versions").items()),
        "Run": facts.get("uid"),
        "Result written": run.written,
    }
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in told.items()
        if value not in (None, "")
    )
    return f'<dl class="facts">{cells}</dl>' if cells else ""


def _base(base: Mapping[str, Any]) -> str:
    sha256 = str(base.get("sha256") or "")
    return " ".join(part for part in (str(base.get("name") or ""), f"(sha256 {sha256[:12]})" if sha256 else "") if part)


def _all_hardware(run: Run) -> str:
    """Return the hardware, by site where the run tells it of every site and it differs."""
    sites = mapping(run.facts, "sites")
    by_site = {site: _hardware(mapping(mapping(sites, site), "hardware")) for site in run.sites if site in sites}
    kinds = list(dict.fromkeys(text for text in by_site.values() if text))
    if not kinds:
        return _hardware(mapping(run.facts, "hardware"))
    if len(kinds) == 1:
        return kinds[0]
    return "; ".join(f"{listed([s for s in by_site if by_site[s] == kind])}: {kind}" for kind in kinds)


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
