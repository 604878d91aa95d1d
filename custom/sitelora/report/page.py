"""One run as one self-contained HTML page, with its numbers as JSON and its plots as PNG beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sitelora.report import figures, sections, server_figures
from sitelora.report.compare_two_runs import with_beside
from sitelora.report.findings import headline, verdict
from sitelora.report.header import header
from sitelora.report.results import Run, read_run
from sitelora.report.template import document
from sitelora.report.warnings_of_run import warnings
from sitelora.typed_json import to_json


def build_report(run_dir: Path, out: Path, *, beside: Path | None = None) -> Path:
    """Write ``index.html``, ``results.json`` and ``figures/*.png`` into ``out``.

    The same run gives the same bytes. The page needs no other file and no network.

    Args:
        run_dir: holds ``server/result.json`` and ``<site>/evaluation/`` of as many sites as are at hand.
        out: made when absent; files of an earlier report are replaced.
        beside: folder of a second run, usually the same job with method ``local``; its personal Dice stands
            beside this run's, and every site below it is warned of.

    Returns:
        The path of ``index.html``.

    Raises:
        ReportError: there is no result in ``run_dir``, a file in it is broken, or the runs cannot be compared.
    """
    run = read_run(run_dir)
    if beside is not None:
        run = with_beside(run, read_run(beside))
    panels = [panel for site in run.sites if (panel := figures.dice_by_round(run, site))]
    final, traffic, total = figures.final_dice(run), figures.bytes_by_round(run), figures.bytes_in_all(run)
    meter, matrices = server_figures.heterogeneity(run), server_figures.similarity(run)
    chapters = [
        header(run),
        sections.quality(run, final),
        sections.round_by_round(run, panels),
        sections.aggregation(meter, matrices),
        sections.travelled(run, traffic, total),
        sections.pictures(run),
        sections.cases(run),
        sections.glossary(),
        '<footer class="note">Made by SiteLoRA from the files of the run; this page loads nothing and sends '
        "nothing. For research; not a medical device.</footer>",
    ]
    out.mkdir(parents=True, exist_ok=True)
    for picture in [*panels, *matrices, *(p for p in (final, traffic, total, meter) if p)]:
        (out / "figures").mkdir(exist_ok=True)
        (out / "figures" / f"{picture.name}.png").write_bytes(picture.png)
    numbers = json.dumps(collected(run, run_dir), indent=1, allow_nan=False, ensure_ascii=False)
    (out / "results.json").write_text(numbers + "\n", encoding="utf-8")
    page = out / "index.html"
    title = run.result.federation or "Federation"
    body = "\n".join(chapter for chapter in chapters if chapter)
    page.write_text(document(title=f"{title} · SiteLoRA report", body=body), encoding="utf-8")
    return page


def collected(run: Run, run_dir: Path) -> dict[str, Any]:
    """Return all numbers of the page in plain dictionaries, ready for JSON without NaN."""
    scores = {
        site: {
            model: {
                "dice": score.dice,
                "dice_ci95": list(score.interval) if score.interval else None,
                "patient_count": score.patient_count,
                "not_applicable": score.not_applicable,
                "cases": to_json(score.cases),
            }
            for model, score in models.items()
        }
        for site, models in run.evaluation.items()
    }
    listed = {
        site: [{**asdict(entry), "path": entry.path.relative_to(run_dir.resolve()).as_posix()} for entry in entries]
        for site, entries in run.overlays.items()
    }
    written_elsewhere = {"rounds", "evaluation", "warnings"}
    value = {
        "format": 1,
        "verdict": verdict(run),
        "warnings": warnings(run),
        "headline": headline(run),
        "run": {name: fact for name, fact in run.result.to_json().items() if name not in written_elsewhere},
        "rounds": [asdict(each) for each in run.rounds],
        "evaluation": scores,
        "overlays": listed,
    }
    return finite(value)


def finite(value: Any) -> Any:
    """Return the value with every NaN and infinity as ``None``, at any depth."""
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and value - value != 0 else value
