"""One page over all comparisons in a folder: every method on every dataset, and what became of the papers' claims."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from sitelora.comparison import tables
from sitelora.comparison.claims import CLAIMS, EQUAL, Claim, examined
from sitelora.comparison.page import commands, preliminary
from sitelora.comparison.runs import Runs, read_runs
from sitelora.comparison.scores import ALL_SITES, Difference, overall
from sitelora.comparison.setup import Setup, setups
from sitelora.disk import OTHER_OUT, saying
from sitelora.report.format_values import bytes_text, count_text

NAME, MARK = "README.md", "<!-- written by `sitelora compare`; do not edit -->"


def write_overview(folder: Path) -> Path:
    """Write ``README.md`` into a folder of comparisons, from their runs' files alone, and return it.

    A README.md that is somebody else's stays as it is.
    """
    page = folder / NAME
    if page.is_file() and not page.read_text(encoding="utf-8").startswith(MARK):
        return page
    known = setups(folder)
    found = {name: read_runs(folder, name) for name in known if any((folder / "runs" / name).glob("*.json"))}
    score = " or ".join(dict.fromkeys(runs.primary.title for runs in found.values()))
    parts = [
        f"{MARK}\n\n# Results",
        _preliminary(found),
        f"Personal models, mean of a dataset's sites, test {score} ± deviation over seeds [95 % interval over "
        "patients], and the bytes that one site sends. Sites apart, labels, distances, learning rates and the budget "
        "are on each dataset's own page.",
        tables.markdown(*_every_method(found)),
        "## What the papers claim",
        f"Over all sites of a dataset: difference in {score} [95 % interval over patients], p corrected over the "
        f"claims of its page. Held: told apart in the claimed direction, or, for a claim of equality, an interval "
        f"within ±{EQUAL:g}. In brackets the bytes sent, and at how many sites the claim held by itself. A paper's "
        "claim is about its data and its budget; this table is about ours.",
        tables.markdown(*_every_claim(found)),
        f"## Each dataset: {score} against bytes, and the commands that make it again",
        *(part for name, runs in found.items() for part in _dataset(name, known[name], runs)),
        "Every page, this one too, is written from the runs' files by `sitelora compare --dataset NAME --only-page "
        "--out docs/results`.",
    ]
    with saying(page, elsewhere=OTHER_OUT):
        page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def _preliminary(found: Mapping[str, Runs]) -> str:
    """Return which pages are to be made anew; each says why."""
    old = [f"[{name}]({name}.md)" for name, runs in found.items() if preliminary(runs)]
    return f"> **Preliminary, to be made anew:** {', '.join(old)}; each page says why." if old else ""


def _every_method(found: dict[str, Runs]) -> tuple[list[str], tables.Rows]:
    methods = list(dict.fromkeys(method for runs in found.values() for method in runs.by_method))
    several = len({runs.primary for runs in found.values()}) > 1
    heads = [f"[{name}]({name}.md){f', {runs.primary.title}' if several else ''}" for name, runs in found.items()]
    return ["method", *heads], [[method, *(_cell(runs, method) for runs in found.values())] for method in methods]


def _cell(runs: Runs, method: str) -> str:
    if method not in runs.by_method:
        return ""
    each = runs.by_method[method]
    sent = statistics.fmean(each[0]["sites"][site]["bytes_up"] for site in runs.sites)
    return f"{tables.score_text(overall(each, runs.sites))}, {bytes_text(sent)}"


def _every_claim(found: dict[str, Runs]) -> tuple[list[str], tables.Rows]:
    by_dataset = [(runs, examined(runs)) for runs in found.values()]
    shown = [claim for claim in CLAIMS if any(claim in claims for _, claims in by_dataset)]
    return ["claim", *found], [
        [claim.text, *(_verdict(runs, claim, claims.get(claim, {})) for runs, claims in by_dataset)] for claim in shown
    ]


def _verdict(runs: Runs, claim: Claim, by_site: Mapping[str, Difference]) -> str:
    if not by_site:
        return ""
    tested = [by_site[site] for site in runs.sites if by_site[site].p is not None]
    held = sum(claim.verdict(one, runs.primary) == "held" for one in tested)
    apart = f"; held at {held} of {count_text(len(tested), 'site')}" if tested else ""
    whole = by_site.get(ALL_SITES, by_site[runs.sites[0]])
    told, sent = tables.difference_text(whole), tables.bytes_ratio(runs, claim)
    return f"**{claim.verdict(whole, runs.primary)}**: {told} (bytes: {sent}{apart})"


def _dataset(name: str, setup: Setup, runs: Runs) -> list[str]:
    seeds = max(len(each) for each in runs.by_method.values())
    return [
        f"### [{setup.title}]({name}.md)",
        f"{count_text(len(runs.every), 'run')}, up to {count_text(seeds, 'seed')}.",
        f"![Mean personal {runs.primary.title} against bytes sent by a site, one point a method]({name}_bytes.png)",
        commands(setup, runs),
    ]
