"""The page's chapters: quality at every site, round by round, what travelled, pictures, cases, words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sitelora.evaluation.overlays import LINE_STYLES, PREDICTION, TRUTH
from sitelora.report.case_table import case_table
from sitelora.report.costs import full_model_bytes
from sitelora.report.egress import before_rounds, shared_table, stayed, traffic_table
from sitelora.report.figures import segmented
from sitelora.report.findings import class_names, main_model, mean_dice
from sitelora.report.glossary import GLOSSARY
from sitelora.report.inlined import inlined_overlay
from sitelora.report.results import Run
from sitelora.report.style import ROUND_CURVES, ROUND_WORDS, Picture, model_style
from sitelora.report.tables import not_applicable, round_site_table, round_table, site_table
from sitelora.report.words import bytes_text, count_text


def quality(run: Run, final: Picture | None) -> str:
    """Return the chapter on the models in the end."""
    if not run.evaluation:
        return "<h2>How good the models are</h2><p>No model was scored on test data in this run.</p>"
    drawn = [model for model in run.models if mean_dice(run, model) is not None]
    caption = "How to read it: one row a site; further right is better. Thin lines are 95 % intervals."
    notes = "".join(f'<p class="note">{escape(line)}</p>' for line in not_applicable(run))
    told = f" The {run.beside} run is another run, put beside this one; difference: this run's personal Dice minus its."
    beside = escape(told) if run.beside else ""
    return f"""<h2>How good the models are</h2>
<p>Dice on every site's own test cases, which no model was trained on: 0 is no overlap, 1 is perfect.</p>
{key(drawn) if final else ""}
<div class="two">{_figure(final, caption)}<div>{site_table(run)}
<p class="note">Cases: training / validation / test. Small numbers: 95 % intervals over patients.{beside}</p>
{notes}</div></div>"""


def round_by_round(run: Run, panels: Sequence[Picture]) -> str:
    """Return the chapter on the course of the training."""
    if not run.rounds:
        return ""
    curves = "".join(f"<figure>{panel.svg}</figure>" for panel in panels)
    told = {name for each in run.rounds for entry in each.sites.values() for name in entry.metrics}
    curves_of = [ROUND_CURVES[metric] for metric in ("dice_received", "dice_personal", "dice_served") if metric in told]
    drawn = f"""{key(curves_of, ROUND_WORDS, rounds=True)}
<div class="panels">{curves}</div>
<p class="note">How to read it: one panel a site, all with the same axes; rounds run to the right, Dice upwards, and
the number is the last value.</p>"""
    table = round_site_table(run)
    numbers = f"<h3>Dice of each round, site by site: received → freshly trained</h3>\n{table}" if table else ""
    served = "; the served one is chosen among all that the site had by then" if "personal" in curves_of else ""
    return f"""<h2>Round by round</h2>
<p>Dice on every site's validation cases: of the model as the site received it, and of the one that it made of it by
training, before the server averaged it with the others'{served}.</p>
{drawn if panels else ""}
{numbers}
<h3>Dice and bytes of each round, all sites together</h3>
{round_table(run)}"""


def aggregation(meter: Picture | None, matrices: Sequence[Picture]) -> str:
    """Return the chapter on what the server made of the sites' updates."""
    if not meter and not matrices:
        return ""
    parts = ["<h2>How different the sites are</h2>"]
    if meter:
        labels = {"received": "Mean of A times mean of B", "personal": "What this run's server sent"}
        caption = (
            "How to read it: the mean of the sites' products B A is what their updates say together; a curve is the "
            "share of it (Frobenius norm) that is missed, 0 % is all of it. The band spans the adapters. The further "
            "the first curve is from 0 %, the more the sites' factors differ."
        )
        legend = key(["received", "personal"], labels)
        told = f'<div><p class="note">{escape(caption)}</p></div>'
        parts.append(f'{legend}<div class="two"><figure>{meter.svg}</figure>{told}</div>')
    if matrices:
        drawn = "".join(f"<figure>{matrix.svg}</figure>" for matrix in matrices)
        parts.append(
            f"""<div class="panels">{drawn}</div>
<p class="note">How to read it: left, the cosine of two sites' changes of the round (1: the same way, 0: nothing in
common, orange: against each other); right, the mixture that the site of the row receives, from the site of the
column; a row adds up to 1.</p>"""
        )
    return "\n".join(parts)


def travelled(run: Run, traffic: Picture | None, total: Picture | None) -> str:
    """Return the chapter on bytes and names that left a site."""
    shared, sites = shared_table(run), traffic_table(run)
    if not (shared or sites):
        return ""
    labels = {"received": "To the sites", "personal": "From the sites"}
    caption = f"How to read it: one pair of bars a round{', one segment a site' if segmented(run) else ''}."
    names = f'<h3>What a site sends, by name</h3><div class="names">{shared}</div>' if shared else ""
    full = full_model_bytes(run)
    against = (
        f" Full fine-tuning would put every value of the model ({bytes_text(full)} as sent) into every message."
        if full
        else ""
    )
    legend = key(["received", "personal"], labels, squares=True) if traffic else ""
    scale = "All rounds, both directions, on one scale." if total else ""
    return f"""<h2>What travelled</h2>
<p>Tensors and numbers only. Images, labels and local tensors are not part of any message; every site's own audit log
lists each tensor it sent.{against}</p>
<div class="two"><div>{_figure(total, scale)}
{legend}{_figure(traffic, caption)}</div>
<div>{sites}
<p class="note">{escape(before_rounds(run))}</p></div></div>
{names}
<p class="note">{escape(stayed(run))}</p>"""


def pictures(run: Run) -> str:
    """Return the chapter with every site's overlays."""
    if not run.overlays:
        return ""
    parts = [
        "<h2>Pictures</h2>\n<p>Every site's best, median and worst test case, a volume on the slice with the largest "
        "true area. Pictures never leave a site; they are here because this page was made where they are.</p>\n"
        + outlines_key(run)
    ]
    for site, overlays in run.overlays.items():
        hospital = run.hospital(site)
        told = f" · {escape(hospital)}" if hospital else ""
        figures = "".join(inlined_overlay(overlay, site) for overlay in overlays)
        parts.append(f'<h3>{escape(site)}{told}</h3><div class="pictures">{figures}</div>')
    return "\n".join(parts)


def cases(run: Run) -> str:
    """Return the chapter with every case."""
    table, count = case_table(run)
    if not table:
        return ""
    main = main_model(run)
    distances = f" HD95 and NSD are those of the {main} model." if main else ""
    return (
        f"<h2>Every case</h2>\n<p>{count_text(count, 'row')}, worst first; press a column's head to sort by it."
        f"{distances}</p>\n{table}"
    )


def glossary() -> str:
    """Return the words of the page."""
    words = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in GLOSSARY.items())
    return f'<h2>Words on this page</h2>\n<dl class="words">{words}</dl>'


def key(
    models: Sequence[str],
    labels: dict[str, str] | None = None,
    *,
    squares: bool = False,
    rounds: bool = False,
) -> str:
    """Return a legend: markers as in the plots, or squares for bars.

    Args:
        rounds: of curves by round: the served model is a band, and a cross is a round without an update.
    """
    shapes = {
        "o": '<circle cx="7" cy="7" r="4.5"/>',
        "s": '<rect x="2.5" y="2.5" width="9" height="9"/>',
        "D": '<path d="M7 1.5 12.5 7 7 12.5 1.5 7z"/>',
        "^": '<path d="M7 2 12.5 12H1.5z"/>',
        "v": '<path d="M7 12 12.5 2H1.5z"/>',
        "P": '<path d="M5 1.5h4V5h3.5v4H9v3.5H5V9H1.5V5H5z"/>',
        "band": '<path d="M0 7h14" stroke-width="6" stroke-opacity="0.35"/>',
        "X": '<path d="M3 3l8 8M11 3l-8 8"/>',
    }
    entries = []
    for model in models:
        tone, marker, words = model_style(model)
        shape = shapes["s" if squares else "band" if rounds and model == "personal" else marker]
        fill = "var(--paper)" if model == "base" else f"var(--{tone})"
        entries.append(
            (
                f'fill="{fill}" stroke="var(--{tone})" stroke-width="1.5"',
                shape,
                (labels or {}).get(model, words),
            )
        )
    if rounds:
        entries.append(('fill="none" stroke="var(--alert)" stroke-width="1.8"', shapes["X"], "Round without an update"))
    lines = "".join(
        f'<li><svg width="14" height="14" aria-hidden="true" {look}>{shape}</svg>{escape(words)}</li>'
        for look, shape, words in entries
    )
    return f'<ul class="key">{lines}</ul>'


def outlines_key(run: Run) -> str:
    """Return the legend of the overlays: colour says truth or prediction, the kind of line says the class."""
    entries = [("Truth (thick)", TRUTH, 3.5, ""), ("Prediction (thin)", PREDICTION, 2.2, "")]
    for place, name in enumerate(class_names(run)):
        dashes = " ".join(f"{2.2 * part:.1f}" for part in LINE_STYLES[place % len(LINE_STYLES)][1])
        entries.append((name, "#c9d1d9", 2.2, f' stroke-dasharray="{dashes}"' if dashes else ""))
    lines = "".join(
        f'<li><svg width="40" height="14" aria-hidden="true"><rect width="40" height="14" fill="#000" rx="3"/>'
        f'<path d="M5 7h30" stroke="{colour}" stroke-width="{width}"{dashes}/></svg>{escape(words)}</li>'
        for words, colour, width, dashes in entries
    )
    return f'<ul class="key">{lines}</ul>'


def _figure(picture: Picture | None, caption: str) -> str:
    if picture is None:
        return ""
    return f"<figure>{picture.svg}<figcaption>{escape(caption)}</figcaption></figure>"
