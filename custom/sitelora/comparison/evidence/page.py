"""The page of one experiment: three plain lines for a clinician, plots, then tables; all from the runs' files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from sitelora.comparison.evidence.estimate import Estimate
from sitelora.comparison.evidence.experiment import BASE, PERSONAL, REFERENCE, SAME, TRAINED, TUNED, Protocol
from sitelora.comparison.evidence.plots import write_plots
from sitelora.comparison.evidence.remaining import runs_left
from sitelora.comparison.evidence.results import Record, bytes_sent, model_of
from sitelora.comparison.evidence.verdicts import HELD, REVERSED, UNJUDGED, Rows, Verdict
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


def difference_text(one: Estimate | None, *, alpha: float = 0.05) -> str:
    """Return ``mean [interval]``, better is more; the interval holds 1 - alpha."""
    if one is None:
        return ""
    bounds = one.interval(alpha)
    return f"{one.mean:+.3f}" + (f" [{bounds[0]:+.3f}, {bounds[1]:+.3f}]" if bounds else "")


def claim_text(one: Verdict, rules: Protocol) -> str:
    """Return a claim's difference; of equality with the interval of its two one-sided tests, which is said."""
    if one.claim.kind != SAME or one.found is None or one.found.error is None:
        return difference_text(one.found)
    return f"{difference_text(one.found, alpha=2 * rules.alpha)} ({100 - 200 * rules.alpha:g} %)"


def p_text(p: float | None) -> str:
    """Return a p value as people read it."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def plain_lines(rows: Rows, found: Sequence[Verdict], where: str = "../..") -> list[str]:
    """Return three lines for a clinician on the first claim that is judged: is there a gain, how sure, what leaves.

    Where an experiment has announced main questions a side question does not answer in their place, and a comparison of
    two methods does not answer what joining brings.

    Args:
        found: verdicts. where: from the page to the folder of the documents.
    """
    main, primary = [one for one in found if one.claim.primary] or list(found), rows.results.primary
    judged = [one for one in main if one.found is not None and one.words not in UNJUDGED]
    first = next((one for one in judged if _against_alone(one)), next(iter(judged), None))
    if first is None or first.found is None or primary is None:
        return ["**Would my hospital gain?** Not known yet: the runs that answer it are not all made."]
    one = first.found
    told = f"{first.claim.text}: {claim_text(first, rows.rules)} {primary.title} ({first.words})"
    if _against_alone(first):
        word = {HELD: "Yes, here", REVERSED: "No, here it loses"}.get(first.words, "Not shown here")
        told = f"{word}. {told}"
    else:
        told = f"This experiment does not ask that; it asks how methods differ. {told}"
    by = " by this method" if first.claim.paper and _against_alone(first) else ""
    announced = sum(one.claim.primary for one in found)
    kind = {0: "exploratory, no question of it was announced", 1: "the announced main question"}.get(
        announced, f"one of {announced} announced questions"
    )
    lines = [
        f"**Would my hospital gain{by}?** {told}.",
        f"**How sure?** {count_text(one.patients, rows.results.asks.counted)}, "
        f"{count_text(one.seeds, 'repetition')}, p {p_text(first.p) or 'n/a'}; {kind}. Other hospitals, scanners and "
        "tasks may differ from these.",
        _leaves(rows, first, where),
    ]
    return ["\n".join(f"- {line}" for line in lines)]


def _against_alone(one: Verdict) -> bool:
    """Say whether a claim is that something is above a site alone."""
    less = {term.partition("/")[2] for term, weight in one.claim.terms.items() if weight < 0}
    return one.claim.kind != SAME and less == {REFERENCE}


def _leaves(rows: Rows, verdict: Verdict, where: str) -> str:
    """Return what leaves a hospital for the first row of a claim."""
    cell, _, row = next(term for term, weight in verdict.claim.terms.items() if weight > 0).partition("/")
    if rows.results.asks.newcomers:
        return (
            "**What leaves?** Nothing leaves a hospital that comes later: it is given a model, and trains on its own."
        )
    record = next(iter(rows.records(cell, row).values()))
    blocks = [block for site, block in record["sites"].items() if site in rows.results.asks.asked()]
    up = statistics.fmean(block["bytes_up"] for block in blocks)
    number = max(1, len(record["rounds"]))
    return (
        f"**What leaves?** No image and no label: numbers of the adapted layers, {bytes_text(up)} a site in all "
        f"{number} rounds (`{rows.resolved(cell, row)}`), and scores. [What that can give away]({where}/privacy.md)."
    )


def _score(rows: Rows, cell: str, row: str, sites: Sequence[str]) -> Estimate | None:
    return rows.difference({f"{cell}/{row}": 1.0}, sites=sites)


def _gains(rows: Rows, primary: Metric) -> list[str]:
    """Return how much the best federated model is above being alone: cell by cell, then at every site by itself."""
    asks = rows.results.asks
    best = next((row for row, entry in asks.entries.items() if entry.best_of), "")
    table, apart = list[list[str]](), list[list[str]]()
    for cell, what in asks.cells.items():
        if not best or not {best, REFERENCE} <= asks.rows(cell).keys():
            continue
        terms = {f"{cell}/{best}": 1.0, f"{cell}/{REFERENCE}": -1.0}
        one, every = rows.difference(terms, sites=asks.asked()), rows.difference(terms)
        if one is None or every is None:
            continue
        above = sum(value > 0 for value in every.sites.values())
        table.append([
            what.title, rows.resolved(cell, best), difference_text(one), p_text(one.differs()),
            count_text(one.patients, asks.counted), count_text(one.seeds, "seed"), f"{above} of {len(every.sites)}",
        ])  # fmt: skip
        apart.append([what.title, *(difference_text(rows.difference(terms, sites=[site])) for site in asks.sites)])
    if not table:
        return []
    where = f"at {listed(list(asks.small))}" if asks.small else "mean of the sites"
    at = f"{primary.title} above `{REFERENCE}`, {where} [95 %]"
    return [
        "## Gain by joining",
        markdown(["", f"`{best}` is", at, "p, not corrected", "", "", "sites above alone"], table),
        "The same at every site by itself:",
        markdown(["", *asks.sites], apart),
    ]


def _claim(one: Verdict, rules: Protocol) -> list[str]:
    words, same = one.words, one.claim.kind == SAME
    p = one.found.differs() if one.found is not None and same and words == HELD else None
    if one.found is not None and p is not None and p < rules.alpha:
        words += f": within the margin, yet {'above' if one.found.mean > 0 else 'below'} the reference"
    return [
        one.claim.text,
        "primary" if one.claim.primary else "exploratory",
        claim_text(one, rules),
        p_text(one.p),
        "" if one.margin is None else f"±{one.margin:.3f}",
        "" if one.bytes_share is None else f"{one.bytes_share:.2f} times",
        f"**{words}**" if one.claim.primary else words,
    ]


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
        valid = [r["time"]["seconds_of_rounds"] for r in records if r["time"]["seconds_valid"]]
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
            f"{statistics.fmean(valid):.0f}" if valid else "–",
            f"{records[0]['trained_values']:,}",
            "–" if asks.entries[row].probe else f"{records[0]['learning_rate']:g}",
            str(len(records)),
        ])  # fmt: skip
    unseen = [f"{len(asks.left_out)} sites that never took part"] if asks.left_out else []
    failed = "cases wrong" if primary.balanced else f"cases below {rules.failed:g}"
    head = [
        "row", f"{primary.title} of its model [95 %]", "worst site", *unseen, failed,
        "before averaging", "after further steps", "sent / received a site", "seconds", "trained values", "rate",
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
    for cell in rows.results.asks.cells:
        if rows.results.asks.source(cell) != cell:
            continue
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
    valid = sum(bool(r["time"]["seconds_valid"]) for r in records)
    asks = rows.results.asks
    return [
        f"{count_text(len(records), 'run')} on {'; '.join(kinds)}. Base {'; '.join(bases)}. Commits "
        f"{', '.join(commits)}. {'; '.join(versions)}. Images: {asks.cite}. In {valid} of the runs nothing else was at "
        "work, so that their seconds (of the rounds, scoring apart) count; a dash stands for the others.",
        "```sh\n"
        + f"{asks.prepare}\n" * bool(asks.prepare)
        + f"sitelora evidence --experiments {name} --minutes 600 --data data --out "
        "docs/results\n```",
        f"Every case's score, drawn case lists, bytes and similarities of every round: [runs/{name}](runs/{name}). "
        f"`{PERSONAL}` in them is the model served.",
    ]
