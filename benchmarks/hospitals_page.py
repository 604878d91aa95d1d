"""The page of `hospitals.py`: every number and every sentence computed from the committed JSON files alone.

Intervals draw patients, not cases, from Dice averaged over seeds (Efron 1979); differences are paired by case. An
interval says what other patients of the same site would change, the deviation over seeds what another start would.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hospitals_run import EXAMPLE_DATA, ON_ALL_IMAGES, REPOSITORY, SCRIPT, Setup

from sitelora.evaluation.scores import patient_interval
from sitelora.report.words import bytes_text, count_text, dice_text, listed, seconds_text

Run = Mapping[str, Any]
REFERENCE = "local"
PERSONAL = "personal"
MUST_AGREE = (
    "rounds", "epochs", "batch_size", "learning_rate", "schedule", "weight_decay", "precision", "torch_threads",
)  # fmt: skip


def write_page(dataset: str, setup: Setup, folder: Path, pages: Path) -> Path:
    """Write ``<pages>/<dataset>.md`` from the files in ``folder`` and return its path."""
    runs = read_runs(folder)
    first = next(iter(runs.values()))[0]
    sites = sorted(first["sites"])
    parts = [
        f"# {setup.title}",
        introduction(setup, runs, sites),
        f"**{conclusion(setup, runs, sites)}**",
        "## Personal model, Dice on each site's test patients",
        personal_table(runs, sites),
        label_tables(runs, sites),
        f"## Difference to `{REFERENCE}`, paired by case",
        difference_table(runs, sites),
        "## Other models",
        "`base`: before training. `global`: one model for all sites. `unseen`: what a site that never took part gets.",
        other_table(runs, sites),
        "## How it was made",
        making(dataset, setup, runs, folder, pages),
    ]
    pages.mkdir(parents=True, exist_ok=True)
    path = pages / f"{dataset}.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def read_runs(folder: Path) -> dict[str, list[Run]]:
    """Return the runs by method, the reference first, seeds in order.

    Raises:
        SystemExit: no file, or files that cannot be compared; says which and in what they differ.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"{folder}: found no result, expected <method>_seed<k>.json; run without --table first")
    loaded = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files}
    keys: dict[str, list[str]] = {}
    for name, run in loaded.items():
        same = {key: run["budget"][key] for key in MUST_AGREE} | {
            key: run[key] for key in ("image_size", "data_sha256")
        }
        same["base"] = run["base"]["file_sha256"]
        keys.setdefault(json.dumps(same, sort_keys=True), []).append(name)
    if len(keys) > 1:
        differing = "\n".join(f"  {', '.join(names)}: {key}" for key, names in keys.items())
        raise SystemExit(f"{folder}: found unequal budgets or data, expected one; run these again:\n{differing}")
    runs: dict[str, list[Run]] = {}
    for run in sorted(loaded.values(), key=lambda run: (run["method"] != REFERENCE, run["method"], run["seed"])):
        runs.setdefault(run["method"], []).append(run)
    return runs


def case_dice(run: Run, site: str, kind: str, label: str | None = None) -> dict[str, float] | None:
    """Return every test case's Dice, the mean over labels if none is named; ``None`` where there is no model."""
    model = run["sites"][site]["models"].get(kind, {})
    if "cases" not in model:
        return None
    tables = [model["cases"][label]] if label else list(model["cases"].values())
    return {case: statistics.fmean(table[case] for table in tables) for case in tables[0]}


def over_seeds(runs: Sequence[Run], site: str, kind: str, label: str | None = None) -> list[dict[str, float]]:
    """Return the cases' Dice of every seed that has the model."""
    found = [case_dice(run, site, kind, label) for run in runs]
    return [table for table in found if table is not None]


def averaged(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {case: statistics.fmean(table[case] for table in tables) for case in tables[0]}


def interval(run: Run, site: str, values: Mapping[str, float]) -> list[float] | None:
    patients = run["sites"][site]["patients"]
    return patient_interval(list(values.values()), [patients[case] for case in values])


def score_text(runs: Sequence[Run], site: str, kind: str, label: str | None = None, bounds: bool = True) -> str:
    """Return ``mean ± deviation over seeds [95 % interval over patients]``."""
    tables = over_seeds(runs, site, kind, label)
    if not tables:
        return "n/a"
    means = [statistics.fmean(table.values()) for table in tables]
    text = dice_text(statistics.fmean(means)) + (f" ± {statistics.stdev(means):.3f}" if len(means) > 1 else "")
    low_high = interval(runs[0], site, averaged(tables))
    return text + (f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if bounds and low_high else "")


def differences(runs: Mapping[str, list[Run]], method: str, site: str) -> tuple[float, list[float] | None, int]:
    """Return the mean difference to the reference over cases, its interval, and how many seeds both have."""
    theirs = {run["seed"]: run for run in runs[REFERENCE]}
    pairs = [(run, theirs[run["seed"]]) for run in runs[method] if run["seed"] in theirs]
    tables = []
    for run, reference in pairs:
        one, two = case_dice(run, site, PERSONAL), case_dice(reference, site, PERSONAL)
        if one is None or two is None or one.keys() != two.keys():
            raise SystemExit(
                f"{method} seed {run['seed']}: other test cases at {site} than {REFERENCE} has; run it again"
            )
        tables.append({case: one[case] - two[case] for case in one})
    if not tables:
        raise SystemExit(f"{method}: no seed in common with {REFERENCE}; run both with the same seeds")
    values = averaged(tables)
    return statistics.fmean(values.values()), interval(pairs[0][0], site, values), len(tables)


def verdict(low_high: list[float] | None) -> str:
    if low_high is None:
        return "too few patients to compare with"
    return "above" if low_high[0] > 0 else "below" if low_high[1] < 0 else "not told apart from"


def conclusion(setup: Setup, runs: Mapping[str, list[Run]], sites: Sequence[str]) -> str:
    """Return one sentence of what held and what did not; the claims are the goals and "above the reference"."""
    held, failed = [], []
    for site in sites:
        by_verdict: dict[str, list[str]] = {}
        for method in [m for m in runs if m != REFERENCE and REFERENCE in runs]:
            mean, low_high, _ = differences(runs, method, site)
            by_verdict.setdefault(verdict(low_high), []).append(f"{method} ({mean:+.3f})")
        for word, methods in by_verdict.items():
            (held if word == "above" else failed).append(f"{word} `{REFERENCE}` at {site}: {listed(methods)}")
        if setup.goal_dice is not None:
            reached: dict[bool, list[str]] = {}
            for method, each in runs.items():
                mean = statistics.fmean(averaged(over_seeds(each, site, PERSONAL)).values())
                reached.setdefault(mean >= setup.goal_dice, []).append(f"{method} ({mean:.3f})")
            for good, claims, word in ((True, held, "at least"), (False, failed, "below")):
                if good in reached:
                    claims.append(f"Dice {word} {setup.goal_dice:.2f} at {site}: {listed(reached[good])}")
    if setup.goal_seconds is not None:
        longest = max(run["budget"]["seconds"] for each in runs.values() for run in each)
        claim = f"every run within {seconds_text(setup.goal_seconds)}: the longest took {seconds_text(longest)}"
        (held if longest <= setup.goal_seconds else failed).append(claim)
    if not held and not failed:
        return f"Nothing to compare with: there is no run of `{REFERENCE}` and no goal."
    return f"What held: {'; '.join(held) or 'nothing'}. What did not hold: {'; '.join(failed) or 'nothing'}."


def introduction(setup: Setup, runs: Mapping[str, list[Run]], sites: Sequence[str]) -> str:
    first = next(iter(runs.values()))[0]
    budget, base = first["budget"], first["base"]
    where = []
    for site, block in ((site, first["sites"][site]) for site in sites):
        cases, patients = block["cases"], len(set(block["patients"].values()))
        of = "" if patients == cases["test"] else f" of {count_text(patients, 'patient')}"
        where.append(
            f"{site} ({block['hospital']}; {cases['training']} training and {cases['test']} test pictures{of})"
        )
    lines = [
        f"{count_text(sum(map(len, runs.values())), 'run')} on real images of {listed(where)}.",
        f"Images: {setup.cite}.",
        f"Base {base['arch']} ({base['name']}) at {first['image_size']} px; {count_text(budget['rounds'], 'round')} of "
        f"{count_text(budget['epochs'], 'epoch')}, batch {budget['batch_size']}, learning rate "
        f"{budget['learning_rate']} ({budget['schedule']}), {budget['precision']}, the same for every method.",
    ]
    steps = {method: sum(each[0]["budget"]["steps"].values()) for method, each in runs.items()}
    for method in runs:
        ratio = steps[method] / steps.get(REFERENCE, steps[method])
        if abs(ratio - 1) > 0.05:  # pooled sites round up to whole batches once, not once a site
            lines.append(f"`{method}` takes {ratio:.1f} times the steps of `{REFERENCE}` for that.")
    for name in [name for name in ON_ALL_IMAGES if name in runs]:
        lines.append(
            f"`{name}` is `{ON_ALL_IMAGES[name]}` on one folder with ALL sites' images, which no federation has; its "
            "one model stands for the personal model at every site."
        )
    return " ".join(lines)


def personal_table(runs: Mapping[str, list[Run]], sites: Sequence[str]) -> str:
    rows = []
    for method, each in runs.items():
        steps = each[0]["budget"]["steps"]
        sent = [each[0]["sites"][site]["bytes_up"] for site in sites]
        kind = each[0]["sites"][sites[0]]["sent"]
        means = [statistics.fmean(averaged(over_seeds(each, s, PERSONAL)).values()) for s in sites]
        cells = [score_text(each, site, PERSONAL) for site in sites]
        sizes = " / ".join(bytes_text(size) for size in sent) + ("" if kind == "shared tensors" else f" ({kind})")
        steps_text = " / ".join(str(steps[name]) for name in sorted(steps))
        rows.append([method, *cells, dice_text(statistics.fmean(means)), str(len(each)), steps_text, sizes])
    head = ["method", *sites, "mean of sites", "seeds", "steps a site", "sent a site"]
    note = "Mean ± standard deviation over seeds [95 % interval over patients]."
    return f"{note}\n\n{markdown(head, rows)}"


def label_tables(runs: Mapping[str, list[Run]], sites: Sequence[str]) -> str:
    """Return the same per label, where there is more than one."""
    labels = list(next(iter(runs.values()))[0]["sites"][sites[0]]["models"][PERSONAL]["cases"])
    if len(labels) < 2:
        return ""
    head = ["method", *(f"{site}, {label}" for label in labels for site in sites)]
    rows = [[m, *(score_text(each, s, PERSONAL, x) for x in labels for s in sites)] for m, each in runs.items()]
    return f"By label:\n\n{markdown(head, rows)}"


def difference_table(runs: Mapping[str, list[Run]], sites: Sequence[str]) -> str:
    if REFERENCE not in runs:
        return f"There is no run of `{REFERENCE}`."
    rows = []
    for method in [m for m in runs if m != REFERENCE]:
        found = [differences(runs, method, site) for site in sites]
        cells = [
            f"{mean:+.3f}" + (f" [{b[0]:+.3f}, {b[1]:+.3f}]" if b else "") + f", {verdict(b).removesuffix(' from')}"
            for mean, b, _ in found
        ]
        rows.append([method, *cells, str(found[0][2])])
    note = (
        "Mean over cases of the seeds' mean difference [95 % interval over patients]. Intervals are not corrected for "
        "the number of comparisons, and with few patients they are too narrow."
    )
    return f"{note}\n\n{markdown(['method', *sites, 'seeds'], rows)}"


def other_table(runs: Mapping[str, list[Run]], sites: Sequence[str]) -> str:
    """Return the models beside the personal one; methods with equal numbers share a row."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for kind in ("base", "global", "unseen"):
        for method, each in runs.items():
            cells = tuple(score_text(each, site, kind, bounds=False) for site in sites)
            if set(cells) != {"n/a"}:
                shared.setdefault((kind, *cells), []).append(method)
    rows = [[kind, ", ".join(methods), *cells] for (kind, *cells), methods in shared.items()]
    return markdown(["model", "method", *sites], rows)


def making(dataset: str, setup: Setup, runs: Mapping[str, list[Run]], folder: Path, pages: Path) -> str:
    every = [run for each in runs.values() for run in each]
    seconds = [run["budget"]["seconds"] for run in every]
    machines = sorted({f"{r['hardware'].get('gpu') or r['hardware']['processor']}, "
                       f"{count_text(r['budget']['torch_threads'], 'thread')} a run, "
                       f"{count_text(r['hardware']['runs_at_a_time'], 'run')} at a time" for r in every})  # fmt: skip
    versions = sorted({", ".join(f"{k} {v}" for k, v in run["versions"].items()) for run in every})
    commits = sorted({str(run["commit"]) for run in every})
    made = sorted({tuple(run["command"].split(" --methods ")[0].split()) for run in every})
    seeds = sorted({run["seed"] for run in every})
    commands = [f"sitelora prepare {dataset} --source ../shared/data/{setup.source} --out {EXAMPLE_DATA}"]
    commands += [f"{' '.join(m)} --methods {' '.join(runs)} --seeds {' '.join(map(str, seeds))}" for m in made]
    commands += [f"{' '.join(SCRIPT)} {dataset} --table"]
    lines = [
        f"A run took {seconds_text(min(seconds))} to {seconds_text(max(seconds))}, evaluation included, on "
        f"{'; '.join(machines)}. Commit {'; '.join(commits)}. {'; '.join(versions)}.",
        "```sh\n" + "\n".join(commands) + "\n```",
    ]
    inside = folder.resolve().is_relative_to(REPOSITORY) and pages.resolve().is_relative_to(REPOSITORY)
    if inside:
        up = "/".join([".."] * len(pages.resolve().relative_to(REPOSITORY).parts))
        link = f"{up}/{folder.resolve().relative_to(REPOSITORY)}"
        lines.append(f"Every case's Dice, hashes and one command a run: [{folder.name} JSON]({link}).")
    lines.append("This page is written by the last command from those files; do not edit it.")
    return "\n\n".join(lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
