"""The page of one experiment: three plain lines for a clinician, plots, then tables; all from the runs' files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from sitelora.comparison.evidence.estimate import Estimate
from sitelora.comparison.evidence.experiment import BASE, PERSONAL, REFERENCE, SAME, TRAINED, TUNED, Protocol
from sitelora.comparison.evidence.plan import sources
from sitelora.comparison.evidence.plots import write_plots
from sitelora.comparison.evidence.remaining import runs_left
from sitelora.comparison.evidence.results import Record, bytes_sent, model_of
from sitelora.comparison.evidence.verdicts import HELD, Rows, Verdict
from sitelora.comparison.evidence.words import claim_text, difference_text, p_of, p_text, plain_lines
from sitelora.comparison.tables import markdown
from sitelora.metric import Metric
from sitelora.report.format_values import bytes_text, count_text, listed, percent_text


def write_page(name: str, rows: Rows, found: Sequence[Verdict], rules: Protocol, folder: Path) -> Path:
    """Write an experiment's page and plots into a folder and return the page; its runs stand in ``runs`` there.

    Args:
        name: of the experiment. rows: at what validation chose. found: verdicts of its claims.
    """
    asks, primary = rows.results.asks, rows.results.primary
    assert primary is not None
    left = runs_left(rows.results, rules)
    scores = {cell: {row: _score(rows, cell, row, asks.asked()) for row in asks.rows(cell)} for cell in asks.cells}
    parts = [
        f"<!-- written by `sitelora evidence --only-page`; do not edit -->\n\n# {asks.title}",
        f"**{asks.question}**",
        *(
            [f"> **Not finished:** {count_text(left, 'run')} and more are still to come; nothing here is final."]
            * (left > 0)
        ),
        *plain_lines(rows, found),
        *write_plots(name, rows, scores, primary, folder),
        "## Claims",
        "Primary claims are one family with those of all experiments, p corrected by Holm; the others are "
        "exploratory: their p are as they are, and they decide nothing. The primary claims were committed before the "
        "first run of the experiment; [the protocol](../protocol.md) says what was changed since, and why. A claim of "
        "equality has its 90 % interval, the one that its test looks at before any correction.",
        markdown(
            ["claim", "", "difference [95 %]", "p", "margin", "bytes", "verdict"], [_claim(v, rules) for v in found]
        ),
        *_gains(rows, primary),
        *(part for cell in asks.cells for part in _cell(rows, cell, scores[cell], primary, rules)),
        "## Rates and length",
        f"Mean validation {primary.title} at {listed(list(asks.asked()))}, of the model of the row, over "
        f"{rules.selection_seeds} seeds; gain of the last quarter of the rounds.",
        *_rates(rows, primary, rules),
        "## How it was made",
        *_making(name, rows),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.md"
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def _score(rows: Rows, cell: str, row: str, sites: Sequence[str]) -> Estimate | None:
    return rows.difference({f"{cell}/{row}": 1.0}, sites=sites)


def _gains(rows: Rows, primary: Metric) -> list[str]:
    """Return how much the best federated model is above being alone: cell by cell, then at every site by itself.

    Beside it, how much another network alone is.
    """
    asks = rows.results.asks
    others = [row for row, entry in asks.entries.items() if entry.bundle]
    best = next((row for row, entry in asks.entries.items() if entry.best_of), "")
    table, apart = list[list[str]](), list[list[str]]()
    for cell, what in asks.cells.items():
        one, every = (rows.above_alone(cell, best, sites) if best else None for sites in (asks.asked(), ()))
        if one is None or every is None:
            continue
        above = sum(value > 0 for value in every.sites.values())
        table.append([
            what.title, rows.resolved(cell, best), difference_text(one), p_text(one.differs()),
            count_text(one.patients, asks.counted), count_text(one.seeds, "seed"), f"{above} of {len(every.sites)}",
            *(difference_text(rows.above_alone(cell, row, asks.asked())) for row in others),
        ])  # fmt: skip
        apart.append([what.title, *(difference_text(rows.above_alone(cell, best, [site])) for site in asks.sites)])
    if not table:
        return []
    where = f"at {listed(list(asks.small))}" if asks.small else "mean of the sites"
    at = f"{primary.title} above `{REFERENCE}`, {where} [95 %]"
    return [
        "## Gain by joining",
        markdown(
            [
                "",
                f"`{best}` is",
                at,
                "p, not corrected",
                "",
                "",
                "sites above alone",
                *(f"`{row}` alone above `{REFERENCE}`" for row in others),
            ],
            table,
        ),
        "The same at every site by itself:",
        markdown(["", *asks.sites], apart),
    ]


def _claim(one: Verdict, rules: Protocol) -> list[str]:
    words = one.words + _yet(one, rules)
    return [
        one.claim.text,
        "primary" if one.claim.primary else "exploratory",
        claim_text(one, rules),
        p_of(one),
        "" if one.margin is None else f"±{one.margin:.3f}",
        "" if one.bytes_share is None else f"{one.bytes_share:.2f} times",
        f"**{words}**" if one.claim.primary else words,
    ]


def _yet(one: Verdict, rules: Protocol) -> str:
    """Return what is said beside an equality that holds where there is a difference all the same."""
    p = one.found.differs() if one.found is not None and one.claim.kind == SAME and one.words == HELD else None
    if one.found is None or p is None or p >= rules.alpha:
        return ""
    return f": within the margin, yet {'above' if one.found.mean > 0 else 'below'} the reference"


def _cell(rows: Rows, cell: str, scores: dict[str, Estimate | None], primary: Metric, rules: Protocol) -> list[str]:
    asks = rows.results.asks
    table = []
    for row, one in scores.items():
        records = list(rows.records(cell, row).values())
        if one is None or not records:
            continue
        bounds = one.interval()
        score = primary.goodness(one.mean)
        shown = primary.text(score) + (
            f" [{', '.join(f'{_within(b, primary):.3f}' for b in bounds)}]" if bounds else ""
        )
        every = _score(rows, cell, row, ()) or one
        worst = min(every.sites, key=lambda site: every.sites[site])
        given = asks.entries[row].model == BASE  # what a newcomer is given has no rounds of its own
        kinds = ["" if given else _further(rows, cell, row, kind, primary) for kind in (TRAINED, TUNED)]
        timed = rows.results.seconds.get((asks.source(cell), rows.entry(cell, row).run, rows.choice(cell).steps))
        what = next(iter(records[0]["sites"].values()))["sent"]
        up, down = (
            bytes_text(statistics.fmean(bytes_sent(record, key) for record in records))
            for key in ("bytes_up", "bytes_down")
        )
        table.append([
            row if not asks.entries[row].best_of else f"{row} ({rows.resolved(cell, row)})",
            shown,
            f"{primary.text(primary.goodness(every.sites[worst]))} ({worst})",
            *([_unseen(records, primary)] if asks.left_out else []),
            percent_text(_failed(rows, records, cell, row, primary, rules)),
            *kinds,
            f"{up} / {down}" + ("" if what in ("shared tensors", "nothing") else f" ({what})"),
            "–" if given or timed is None else f"{timed:.0f}",
            f"{records[0]['trained_values']:,}",
            "–" if asks.entries[row].probe else f"{records[0]['learning_rate']:g}",
            str(len(records)),
        ])  # fmt: skip
    unseen = [f"{len(asks.left_out)} sites that never took part"] if asks.left_out else []
    failed = "cases wrong" if primary.balanced else f"cases below {rules.failed:g}"
    head = [
        "row", f"{primary.title} of its model [95 %]", "worst site", *unseen, failed,
        "before averaging", "after further steps", "sent / received a site", "seconds a site", "trained values", "rate",
        "seeds",
    ]  # fmt: skip
    if not table:
        return []
    base = None if asks.newcomers else rows.base(cell, asks.asked())
    if base is not None:
        untrained = primary.text(primary.goodness(base))
        table.insert(0, ["base, as it comes", untrained, *[""] * (4 + len(unseen)), "nothing", "", "0", "", ""])
    drawn = "Every seed draws other sites, so these are not the sites of another table." * bool(
        asks.cells[cell].sites_at_once
    )
    return [f"## {asks.cells[cell].title} (`{cell}`)", drawn, markdown(head, table)]


def _within(value: float, primary: Metric) -> float:
    """Return an end of an interval, or the bound of what a score can be; better is more, as estimates are."""
    ends = [primary.goodness(end) for end in (primary.lowest, primary.highest) if end is not None]
    return min(max(value, min(ends)), max(ends)) if len(ends) == 2 else value


def _unseen(records: Sequence[Record], primary: Metric) -> str:
    """Return what sites that never took part would get, mean of these sites and the seeds."""
    found = [models["left_out"] for record in records for models in record["left_out"].values() if "left_out" in models]
    return primary.text(statistics.fmean(found)) if found else ""


def _further(rows: Rows, cell: str, row: str, kind: str, primary: Metric) -> str:
    """Return a kind of model's mean score at the sites asked about; empty where a run has no such model."""
    one = rows.difference({f"{cell}/{row}": 1.0}, sites=rows.results.asks.asked(), model=kind)
    return primary.text(primary.goodness(one.mean)) if one is not None else ""


def _failed(rows: Rows, records: Sequence[Record], cell: str, row: str, primary: Metric, rules: Protocol) -> float:
    """Return the share of test cases that failed, every hospital counting the same."""
    asks, kind = rows.results.asks, rows.entry(cell, row).model
    found: dict[str, list[bool]] = {}
    for record in records:
        for site, block in record["sites"].items():
            if site in asks.asked():
                failed = [primary.better(rules.failed, value) for value in model_of(block, kind)["cases"]]
                found.setdefault(asks.whole(site), []).extend(failed)
    return statistics.fmean(statistics.fmean(failed) for failed in found.values())


def _rates(rows: Rows, primary: Metric, rules: Protocol) -> list[str]:
    parts = []
    for cell in sources(rows.results.asks):
        choice = rows.choice(cell)
        every = sorted({rate for found in choice.scores.values() for rate in found})
        table = [
            [row, *(primary.text(found.get(rate)) if rate in found else "" for rate in every),
             f"{choice.rates[row]:g}" if row in choice.rates else "", f"{choice.gains[row]:+.4f}"
             if row in choice.gains else ""]
            for row, found in choice.scores.items()
        ]  # fmt: skip
        by = listed([f"`{row}`" for row in choice.gains])
        still = listed([f"`{row}`" for row, gain in choice.gains.items() if gain >= rules.converged])
        state = f"long enough by {by}" if choice.converged else f"NOT long enough by {still}"
        if not choice.gains:
            state = "whether that is long enough was not looked at"
        if not choice.done:
            state = "rates or length are not settled yet"
        parts += [
            f"`{cell}`: {choice.steps} steps a site, {state}.",
            markdown(["row", *(f"{rate:g}" for rate in every), "chosen", "last quarter"], table),
        ]
    return parts


def _making(name: str, rows: Rows) -> list[str]:
    records = list(rows.results.records.values())
    kinds = sorted({
        f"{r['kind']['gpu'] or r['hardware'].get('processor', '')} ({r['kind']['instructions']}), "
        f"{r['kind']['precision']}"
        for r in records
    })  # fmt: skip
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["kind"]["versions"].items()) for r in records})
    commits = sorted({str(r["commit"]) for r in records})
    bases = sorted({f"{r['base']['arch']} ({r['base']['name']})" for r in records})
    asks = rows.results.asks
    return [
        f"{count_text(len(records), 'run')} on {'; '.join(kinds)}. Base {'; '.join(bases)}. Commits "
        f"{', '.join(commits)}. {'; '.join(versions)}. Images: {asks.cite}. Seconds are those of all "
        "rounds, from some that were timed with one thread and nothing else at work (`--seconds`); a dash stands where "
        "none were.",
        "```sh\n"
        + f"{asks.prepare}\n" * bool(asks.prepare)
        + f"sitelora evidence --experiments {name} --minutes 600 --data data --out "
        "docs/results\n```",
        f"Every case's score, drawn case lists, bytes and similarities of every round: [runs/{name}](runs/{name}). "
        f"`{PERSONAL}` in them is the model served.",
    ]
