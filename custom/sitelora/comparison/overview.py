"""One page over all comparisons in a folder: every method on every dataset, and what became of the papers' claims."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from sitelora.comparison import tables
from sitelora.comparison.claims import CLAIMS, Claim, examined
from sitelora.comparison.runs import Runs, read_runs
from sitelora.comparison.scores import Difference, score
from sitelora.comparison.setup import SETUPS
from sitelora.report.words import bytes_text, count_text, dice_text

NAME, MARK = "README.md", "<!-- written by `sitelora compare`; do not edit -->"


def write_overview(folder: Path) -> Path:
    """Write ``README.md`` into a folder of comparisons, from their runs' files alone, and return it.

    A README.md that is somebody else's stays as it is.
    """
    page = folder / NAME
    if page.is_file() and not page.read_text(encoding="utf-8").startswith(MARK):
        return page
    found = {name: read_runs(folder, name) for name in SETUPS if any((folder / "runs" / name).glob("*.json"))}
    parts = [
        f"{MARK}\n\n# Results",
        "Personal models, mean test Dice over a dataset's sites (mean over seeds; in brackets the bytes that one site "
        "sends). Intervals, labels, distances, learning rates and the budget are on each dataset's own page.",
        tables.markdown(*_every_method(found)),
        "## What the papers claim",
        "At how many of a dataset's sites a claim held; how that is decided is on the pages.",
        tables.markdown(*_every_claim(found)),
        "## Pages",
        "\n".join(_line(name, runs) for name, runs in found.items()),
        "Every page, this one too, is written from the runs' files by `sitelora compare --dataset NAME --only-page "
        "--out docs/results`; the commands that make the runs again are at the end of each page.",
    ]
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def _every_method(found: dict[str, Runs]) -> tuple[list[str], tables.Rows]:
    methods = list(dict.fromkeys(method for runs in found.values() for method in runs.by_method))
    return ["method", *(f"[{name}]({name}.md)" for name in found)], [
        [method, *(_cell(runs, method) for runs in found.values())] for method in methods
    ]


def _cell(runs: Runs, method: str) -> str:
    if method not in runs.by_method:
        return ""
    each = runs.by_method[method]
    means = [one.mean for site in runs.sites if (one := score(each, site))]
    sent = statistics.fmean(each[0]["sites"][site]["bytes_up"] for site in runs.sites)
    return f"{dice_text(statistics.fmean(means)) if means else 'n/a'} ({bytes_text(sent)})"


def _every_claim(found: dict[str, Runs]) -> tuple[list[str], tables.Rows]:
    by_dataset = [(runs, examined(runs)) for runs in found.values()]
    shown = [claim for claim in CLAIMS if any(claim in claims for _, claims in by_dataset)]
    return ["claim", *found], [
        [claim.text, *(_verdict(runs, claim, claims.get(claim, {})) for runs, claims in by_dataset)] for claim in shown
    ]


def _verdict(runs: Runs, claim: Claim, by_site: Mapping[str, Difference]) -> str:
    if not by_site:
        return ""
    held = sum(claim.verdict(one) == "held" for one in by_site.values())
    mean = statistics.fmean(one.mean for one in by_site.values())
    return f"{held} of {len(by_site)} ({mean:+.3f}; bytes {tables.bytes_ratio(runs, claim)})"


def _line(name: str, runs: Runs) -> str:
    seeds = max(len(each) for each in runs.by_method.values())
    return (
        f"- [{SETUPS[name].title}]({name}.md): {count_text(len(runs.every), 'run')}, up to {count_text(seeds, 'seed')}"
    )
