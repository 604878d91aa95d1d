"""The tables of a comparison: rows once, as Markdown for the page, as CSV and LaTeX for papers."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Sequence

from sitelora.comparison.claims import Claim, examined
from sitelora.comparison.runs import REFERENCE, Runs
from sitelora.comparison.scores import PERSONAL, Difference, Score, overall, score, set_score
from sitelora.evaluation.scores import patient_interval
from sitelora.report.format_values import bytes_text

Rows = list[list[str]]


def personal_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return head and rows of the personal model's test score, with what it took."""
    rows = []
    for method, each in runs.by_method.items():
        scores = [*(score(each, site) for site in runs.sites), overall(each, runs.sites)]
        budget, first = each[0]["budget"], each[0]["sites"]
        sent = _for_each(bytes_text(first[site]["bytes_up"]) for site in runs.sites)
        kind = first[runs.sites[0]]["sent"]
        rows.append([
            method,
            *(score_text(found) for found in scores),
            str(len(each)),
            f"{each[0]['learning_rate']:g}",
            _for_each(str(budget["steps"][name]) for name in sorted(budget["steps"])),
            sent + ("" if kind == "shared tensors" else f" ({kind})"),
        ])  # fmt: skip
    head = ["method", *runs.sites, "mean of sites", "seeds", "learning rate", "steps a site", "sent a site"]
    return head, rows


def label_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return the same by label; no rows where there is only one."""
    labels = runs.labels
    head = ["method", *(f"{site}, {label}" for label in labels for site in runs.sites)]
    if len(labels) < 2:
        return head, []
    return head, [
        [m, *(score_text(score(each, s, label=label)) for label in labels for s in runs.sites)]
        for m, each in runs.by_method.items()
    ]


def further_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return the scores beside the primary one of the personal model, means over labels and cases."""
    block = runs.first["sites"][runs.sites[0]]["models"][PERSONAL]["metrics"][runs.labels[0]]
    metrics = [metric for metric in runs.metrics if metric.name in block and metric != runs.primary]
    heads = [f"{metric.title}, {metric.unit}".removesuffix(", ") for metric in metrics]
    head = ["method", *(f"{site}, {words}" for words in heads for site in runs.sites)]
    rows = []
    for method, each in runs.by_method.items():
        found = [(metric, score(each, site, metric=metric.name)) for metric in metrics for site in runs.sites]
        rows.append([method, *(score_text(one, places=metric.decimals) for metric, one in found)])
    return head, rows


def set_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return what only many cases together have, of the personal model, mean and deviation over seeds."""
    told = runs.first["sites"][runs.sites[0]]["models"][PERSONAL].get("set_scores", {})
    metrics = [metric for metric in runs.metrics if metric.name in told]
    head = ["method", *(f"{site}, {metric.title}" for metric in metrics for site in runs.sites)]
    if not metrics:
        return head, []
    return head, [
        [
            m,
            *(
                score_text(set_score(each, s, metric.name), places=metric.decimals)
                for metric in metrics
                for s in runs.sites
            ),
        ]
        for m, each in runs.by_method.items()
    ]


def difference_table(runs: Runs, found: dict[str, dict[str, Difference]]) -> tuple[list[str], Rows]:
    """Return the differences to the reference; no rows without it."""
    rows = []
    for method, by_site in found.items():
        cells = [difference_text(one, one.verdict.removesuffix(" from")) for one in by_site.values()]
        rows.append([method, *cells, str(by_site[runs.sites[0]].seeds)])
    where = next(iter(found.values()), {})
    return ["method", *(f"{at}, minus `{REFERENCE}`" for at in where), "seeds"], rows


def claims_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return what the papers claim of their methods beside what was found; no rows without both methods of a claim."""
    found = examined(runs)
    rows = []
    for claim, by_site in found.items():
        cells = [difference_text(one, claim.verdict(one, runs.primary)) for one in by_site.values()]
        rows.append([claim.text, f"`{claim.method}` minus `{claim.against}`", *cells, bytes_ratio(runs, claim)])
    return ["claim", "difference", *next(iter(found.values()), {}), "bytes sent"], rows


def bytes_ratio(runs: Runs, claim: Claim) -> str:
    """Return what a claim's method sends as a share of the other's, in words."""
    one, two = (
        sum(runs.by_method[name][0]["sites"][site]["bytes_up"] for site in runs.sites)
        for name in (claim.method, claim.against)
    )
    return f"1/{two / one:.0f}" if two > 1.5 * one else f"{one / two:.2f} times" if two else "n/a"


def difference_text(found: Difference, verdict: str = "") -> str:
    """Return ``mean [95 % interval over patients], p: verdict``, without p and verdict where there was no test."""
    bounds = f" [{found.interval[0]:+.3f}, {found.interval[1]:+.3f}]" if found.interval else ""
    if found.p is None:
        return f"{found.mean:+.3f}{bounds}"
    p = "< 0.001" if found.p < 0.001 else f"= {found.p:.3f}"
    return f"{found.mean:+.3f}{bounds}, p {p}" + (f": {verdict}" if verdict else "")


def other_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return the models beside the personal one; methods with equal numbers share a row."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for kind in ("base", "global", "unseen"):
        for method, each in runs.by_method.items():
            cells = tuple(score_text(score(each, site, kind), bounds=False) for site in runs.sites)
            if set(cells) != {"n/a"}:
                shared.setdefault((kind, *cells), []).append(method)
    return ["model", "method", *runs.sites], [[k, ", ".join(m), *cells] for (k, *cells), m in shared.items()]


def elsewhere_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return the personal model of every site on the other sites' test cases; no rows where none was scored."""
    rows = []
    for method, each in runs.by_method.items():
        for trained_at in runs.sites:
            cells = [
                score_text(score(each, trained_at, tested_at=site), bounds=False) if site != trained_at else "·"
                for site in runs.sites
            ]
            if {*cells} - {"n/a", "·"}:
                rows.append([method, trained_at, *cells])
    return ["method", "model of", *(f"tested at {site}" for site in runs.sites)], rows


def left_out_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return the mean score over sites that never took part; no rows where there are none."""
    head = ["method", "sites", "before training", "global or unseen-site model", "sites it improves"]
    rows = []
    for method, each in runs.by_method.items():
        found = [run["left_out"] for run in each if run.get("left_out")]
        if not found:
            continue
        sites = sorted(found[0])
        if "not_applicable" in found[0][sites[0]]["left_out"]:
            before = statistics.fmean(found[0][site]["base"]["score"] for site in sites)
            rows.append([method, str(len(sites)), runs.primary.text(before), "n/a", ""])
            continue
        means = {kind: {s: statistics.fmean(run[s][kind]["score"] for run in found) for s in sites}
                for kind in ("base", "left_out")}  # fmt: skip
        low_high = patient_interval(list(means["left_out"].values()), sites)
        bounds = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
        better = sum(runs.primary.better(means["left_out"][site], means["base"][site]) for site in sites)
        told = {kind: runs.primary.text(statistics.fmean(by_site.values())) for kind, by_site in means.items()}
        rows.append([method, str(len(sites)), told["base"], told["left_out"] + bounds, str(better)])
    return head, rows


def rate_table(runs: Runs) -> tuple[list[str], Rows]:
    """Return the validation score by learning rate on the first seed; no rows where there was one rate."""
    rates = sorted({rate for found in runs.validation.values() for rate in found})
    head = ["method", *(f"{rate:g}" for rate in rates), "chosen"]
    if len(rates) < 2:
        return head, []
    rows = []
    for method, found in runs.validation.items():
        cells = [runs.primary.text(found[rate]) if rate in found else "" for rate in rates]
        rows.append([method, *cells, f"{runs.by_method[method][0]['learning_rate']:g}"])
    return head, rows


def score_text(found: Score | None, *, bounds: bool = True, places: int = 3) -> str:
    """Return ``mean ± deviation over seeds [95 % interval over patients]``."""
    if found is None:
        return "n/a"
    text = f"{found.mean:.{places}f}" + (f" ± {found.deviation:.{places}f}" if found.deviation is not None else "")
    low_high = f" [{found.interval[0]:.{places}f}, {found.interval[1]:.{places}f}]" if found.interval else ""
    return text + (low_high if bounds else "")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, empty without rows."""
    if not rows:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def latex(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    """Return a LaTeX table with booktabs rules."""
    lines = [" & ".join(map(_escaped, line)) + r" \\" for line in (head, *rows)]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{_escaped(caption)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
        "\\end{table}\n"
    )


def long_csv(runs: Runs) -> str:
    """Return every score as one row: method, site of the model, model, label, metric, mean, interval and budget."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = ["method", "site", "model", "label", "metric", "mean", "std_over_seeds", "ci95_low", "ci95_high"]
    writer.writerow([*columns, "seeds", "learning_rate", "bytes_up"])
    for method, each in runs.by_method.items():
        for site in runs.sites:
            for kind, block in each[0]["sites"][site]["models"].items():
                asked = [(label, metric) for label, metrics in block.get("metrics", {}).items() for metric in metrics]
                by_case = [(*which, score(each, site, kind, label=which[0], metric=which[1])) for which in asked]
                of_all = [("", name, set_score(each, site, name, kind)) for name in block.get("set_scores", {})]
                if runs.primary.balanced:  # no mean over cases of a label
                    of_all.insert(0, ("", runs.primary.name, score(each, site, kind)))
                for label, metric, found in (*by_case, *of_all):
                    if found is not None:
                        low, high = found.interval or ("", "")
                        deviation = "" if found.deviation is None else found.deviation
                        spent = [len(each), each[0]["learning_rate"], each[0]["sites"][site]["bytes_up"]]
                        values = [method, site, kind, label, metric, found.mean, deviation, low, high, *spent]
                        writer.writerow([f"{v:.5f}" if isinstance(v, float) and k < 9 else v
                                         for k, v in enumerate(values)])  # fmt: skip
    return stream.getvalue()


def _for_each(texts: Iterable[str]) -> str:
    """Return the sites' texts, once where all are equal."""
    found = list(texts)
    return found[0] if len(set(found)) == 1 else " / ".join(found)


def _escaped(text: str) -> str:
    for plain, command in (("_", r"\_"), ("%", r"\%"), ("±", r"$\pm$"), ("<", "$<$"), ("`", "")):
        text = text.replace(plain, command)
    return text
