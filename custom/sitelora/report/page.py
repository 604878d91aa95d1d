"""One run as one self-contained HTML page, with its numbers as JSON and its plots as PNG beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sitelora.disk import OTHER_OUT, saying
from sitelora.report.compare_two_runs import with_beside
from sitelora.report.facts import page_facts
from sitelora.report.findings import headline, verdict
from sitelora.report.format_values import bytes_text, count_text
from sitelora.report.results import Overlay, Run, read_run
from sitelora.report.set_scores import plots_of
from sitelora.report.style import Picture, css_variables
from sitelora.report.warnings_of_run import warnings
from sitelora.run_result import ModelScore
from sitelora.typed_json import to_json


def build_report(run_dir: Path, out: Path, *, beside: Path | None = None) -> Path:
    """Write ``index.html``, ``results.json`` and ``figures/*.png`` into ``out``.

    The same run gives the same bytes. The page needs no other file and no network.

    Args:
        run_dir: holds ``server/result.json`` and ``<site>/evaluation/`` of as many sites as are at hand.
        out: made when absent; files of an earlier report are replaced.
        beside: folder of a second run, usually the same job with method ``local``; its personal score stands
            beside this run's, and every site below it is warned of.

    Returns:
        The path of ``index.html``.

    Raises:
        ReportError: there is no result in ``run_dir``, a file in it is broken, or the runs cannot be compared.
        DiskError: it cannot be written.
    """
    run = read_run(run_dir)
    if beside is not None:
        run = with_beside(run, read_run(beside))
    facts = page_facts(run)
    of_plots = [panel for plot in facts["plots"] for panel in plot.panels]
    numbers = json.dumps(collected(run, run_dir), indent=1, allow_nan=False, ensure_ascii=False)
    html, page = rendered(facts), out / "index.html"
    with saying(out, elsewhere=OTHER_OUT):
        out.mkdir(parents=True, exist_ok=True)
        for picture in (*facts["panels"], *of_plots, *facts["matrices"], *facts.values()):
            if isinstance(picture, Picture):
                (out / "figures").mkdir(exist_ok=True)
                (out / "figures" / f"{picture.name}.png").write_bytes(picture.png)
        (out / "results.json").write_text(numbers + "\n", encoding="utf-8")
        page.write_text(html, encoding="utf-8")
    return page


def environment() -> Environment:
    """Return the templates: what a fact says is escaped, and a fact that is not there is an error."""
    found = Environment(
        loader=PackageLoader("sitelora.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"bytes": bytes_text, "count": count_text, "sha256": _sha256}
    found.globals["tones"] = css_variables
    return found


def rendered(facts: Mapping[str, Any]) -> str:
    """Return the page. It loads nothing: its policy forbids it, and only the script whose hash it names runs."""
    page = environment().get_template("page.html.j2").render(facts)
    return re.sub(r"(\d) %", "\\1\N{NO-BREAK SPACE}%", page)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def collected(run: Run, run_dir: Path) -> dict[str, Any]:
    """Return all numbers of the page in plain dictionaries, ready for JSON without NaN."""
    apart = {"rounds", "evaluation", "warnings"}
    value = {
        "format": 2,
        "verdict": verdict(run),
        "warnings": warnings(run),
        "headline": headline(run),
        "run": {name: fact for name, fact in run.result.to_json().items() if name not in apart},
        "rounds": [asdict(each) for each in run.rounds],
        "evaluation": {
            site: {model: _score(score) for model, score in models.items()} for site, models in run.evaluation.items()
        },
        "plots": {site: to_json(plots) for site, plots in plots_of(run).items()},
        "overlays": {site: [_listed(each, run_dir) for each in overlays] for site, overlays in run.overlays.items()},
    }
    return finite(value)


def _score(score: ModelScore) -> dict[str, Any]:
    return {
        "score": score.score,
        "score_ci95": score.interval,
        "patient_count": score.patient_count,
        "not_applicable": score.not_applicable,
        "set_scores": score.set_scores,
        "set_ci95": score.set_ci95,
        "decision": score.decision,
        "cases": to_json(score.cases),
    }


def _listed(overlay: Overlay, run_dir: Path) -> dict[str, Any]:
    told = asdict(overlay)
    return {"path": Path(told.pop("file")).relative_to(run_dir.resolve()).as_posix(), **told}


def finite(value: Any) -> Any:
    """Return the value with every NaN and infinity as ``None``, at any depth."""
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and value - value != 0 else value
