"""The page of a comparison: every number and every sentence computed from the runs' files alone."""

from __future__ import annotations

import statistics
from pathlib import Path

from sitelora.comparison import figures, tables
from sitelora.comparison.claims import EQUAL
from sitelora.comparison.run_file import SERVED
from sitelora.comparison.runs import REFERENCE, Run, Runs, read_runs
from sitelora.comparison.scores import ALL_SITES, FEWEST_TESTED, TOO_FEW, Difference, differences, score
from sitelora.comparison.setup import ON_ALL_IMAGES, Setup
from sitelora.disk import OTHER_OUT, saying
from sitelora.report.format_values import count_text, listed, seconds_text


def write_page(name: str, setup: Setup, folder: Path) -> Path:
    """Write ``<name>.md``, ``.csv``, ``.tex`` and plots into ``folder`` from ``folder/runs/<name>``; return the page.

    Raises:
        ComparisonError: no run there, or runs that cannot be compared. DiskError: it cannot be written.
    """
    runs = read_runs(folder, name)
    found = differences(runs)
    head, rows = tables.personal_table(runs)
    parts = [
        f"# {setup.title}",
        preliminary(runs),
        introduction(setup, runs),
        f"**{conclusion(setup, runs, found)}**",
        f"## Personal model, {runs.primary.title} on each site's test patients",
        "Mean ± standard deviation over seeds [95 % interval over patients].",
        tables.markdown(head, rows),
        *_chapter("By label", *tables.label_table(runs), level=3),
        *_chapter("Other scores of the personal model", *tables.further_table(runs), level=3),
        *_chapter(
            "What all test cases of a site say together",
            *tables.set_table(runs),
            note="Of the personal model, mean ± deviation over seeds [95 % interval over patients, first seed].",
            level=3,
        ),
        *_chapter(
            f"Difference to `{REFERENCE}`",
            *tables.difference_table(runs, found),
            note="Mean over cases, paired, seeds averaged [95 % interval over patients]; p of Wilcoxon's signed-rank "
            "test over patients, corrected by Holm over this table. All sites: the mean of the sites' means, patients "
            "drawn within each site, p of that mean under random signs of the patients' differences. A site with fewer "
            f"than {FEWEST_TESTED} patients has no test of its own.",
        ),
        *_chapter(
            "What the papers claim",
            *tables.claims_table(runs),
            note="Paired as above, p corrected over this table. Held: told apart in the claimed direction, or, for a "
            f"claim of equality, an interval within ±{EQUAL:g}. A paper's claim is about its data and its budget; this "
            "table is about ours.",
        ),
        f"![{runs.primary.title} against bytes sent]({name}_bytes.png)",
        f"![Validation {runs.primary.title} by round]({name}_curves.png)",
        *_chapter(
            "Other models",
            *tables.other_table(runs),
            note="`base`: before training. `global`: one model for all sites. `unseen`: what a site that never took "
            "part gets.",
        ),
        *_chapter("A site's personal model on other sites' test cases", *tables.elsewhere_table(runs)),
        *_chapter(
            "Sites that never took part",
            *tables.left_out_table(runs),
            note="Mean over sites [95 % interval, sites drawn].",
        ),
        *_chapter(
            "Learning rates",
            *tables.rate_table(runs),
            note=f"Mean validation {runs.primary.title} over sites at the end ({figures.model_of_curves(runs)}), first "
            "seed; test cases have no part in the choice. Where the best is the smallest or the largest of the grid, a "
            "better one may lie beyond it.",
        ),
        "## How it was made",
        making(name, setup, runs),
    ]
    page = folder / f"{name}.md"
    with saying(folder, elsewhere=OTHER_OUT):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.csv").write_text(tables.long_csv(runs), encoding="utf-8")
        (folder / f"{name}.tex").write_text(tables.latex(head, rows, caption=setup.title), encoding="utf-8")
        (folder / f"{name}_bytes.png").write_bytes(figures.score_by_bytes(runs))
        (folder / f"{name}_curves.png").write_bytes(figures.curves(runs))
        page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def preliminary(runs: Runs) -> str:
    """Return why the page is to be made anew, or nothing: its runs are older than what their methods do today."""
    if all(run["format"] >= SERVED for run in runs.every):
        return ""
    return (
        "> **Preliminary, to be made anew.** These runs chose the learning rate on the model that a site had just "
        "trained, which after the last averaging no site is served; they had no bound on a step's gradient, so that at "
        "the higher rates rounding decides whether a small site's model survives; IAT's regularizer had none against "
        "the task's gradient; and a site was served what it received, even where that was worse than what it had."
    )


def introduction(setup: Setup, runs: Runs) -> str:
    """Return what was run on what, at which budget."""
    first = runs.first
    budget, base = first["budget"], first["base"]
    length = _steps_text(budget.get("steps_per_epoch"))
    where = []
    for site in runs.sites:
        block = first["sites"][site]
        cases, patients = block["cases"], len(set(block["patients"].values()))
        of = "" if patients == cases["test"] else f" of {count_text(patients, 'patient')}"
        hospital = f"{block['hospital']}; " if block["hospital"] and block["hospital"] != site else ""
        where.append(f"{site} ({hospital}{cases['training']} training and {cases['test']} test cases{of})")
    lines = [
        f"{count_text(len(runs.every), 'run')} on {listed(where)}.",
        f"Images: {setup.cite}.",
        f"Base {base['arch']} ({base['name']}) at {first['image_size']} px; {count_text(budget['rounds'], 'round')} of "
        f"{count_text(budget['epochs'], 'epoch')}{length}, batch {budget['batch_size']}, {budget['schedule']}, "
        f"weight decay {budget['weight_decay']:g}, {budget['precision']}: the same for every method, with the "
        "same data order.",
    ]
    steps = {method: sum(each[0]["budget"]["steps"].values()) for method, each in runs.by_method.items()}
    for method in runs.by_method:
        ratio = steps[method] / steps.get(REFERENCE, steps[method])
        if abs(ratio - 1) > 0.05:  # pooled sites round up to whole batches once, not once a site
            lines.append(f"`{method}` takes {ratio:.1f} times the steps of `{REFERENCE}`.")
    for name in (name for name in ON_ALL_IMAGES if name in runs.by_method):
        method = ON_ALL_IMAGES[name]
        lines.append(
            f"`{name}` is {f'`{method}`, ' if method != name else ''}trained on one folder with ALL sites' images, "
            "which no federation has; its one model stands for the personal model at every site."
        )
    grid = {rate for rates in runs.validation.values() for rate in rates}
    alone = [method for method, rates in runs.validation.items() if len(rates) == 1 < len(grid)]
    if alone:
        lines.append(
            f"Not the same for all: {listed(alone)} ran at one learning rate, the others chose theirs of {len(grid)}."
        )
    return " ".join(lines)


def conclusion(setup: Setup, runs: Runs, found: dict[str, dict[str, Difference]]) -> str:
    """Return one sentence of what held and what did not; the claims are the goals and "above the reference"."""
    held: list[str] = []
    failed: list[str] = []
    more = runs.primary.more_is_better
    wanted = "above" if more else "below"
    for at in sorted(next(iter(found.values()), {}), key=lambda at: at != ALL_SITES):  # then the sites
        by_verdict: dict[str, list[str]] = {}
        for method, by_site in found.items():
            by_verdict.setdefault(by_site[at].verdict, []).append(f"{method} ({by_site[at].mean:+.3f})")
        if set(by_verdict) == {TOO_FEW}:
            continue
        for word, methods in by_verdict.items():
            (held if word == wanted else failed).append(f"{word} `{REFERENCE}` at {at}: {listed(methods)}")
    if (goal := setup.goal_score) is not None:
        words = ("at least", "below") if more else ("at most", "above")
        for site in runs.sites:
            for claims, methods, word in zip((held, failed), _by_goal(goal, runs, site), words, strict=True):
                if methods:
                    limit = f"{runs.primary.title} {word} {runs.primary.text(goal, fewer=1)}"
                    claims.append(f"{limit} at {site}: {listed(methods)}")
    if setup.goal_seconds is not None:
        longest = max(run["budget"]["seconds"] for run in runs.every)
        claim = f"every run within {seconds_text(setup.goal_seconds)}: the longest took {seconds_text(longest)}"
        (held if longest <= setup.goal_seconds else failed).append(claim)
    if found and not held and not failed:
        return "Too few patients at every site to tell methods apart."
    if not held and not failed:
        return f"Nothing to compare with: there is no run of `{REFERENCE}` and no goal."
    return f"What held: {'; '.join(held) or 'nothing'}. What did not hold: {'; '.join(failed) or 'nothing'}."


def _by_goal(goal: float, runs: Runs, site: str) -> tuple[list[str], list[str]]:
    """Return the methods that reach a goal at a site and those that do not, each with its score."""
    reached: list[str] = []
    missed: list[str] = []
    for method, each in runs.by_method.items():
        if (one := score(each, site)) is not None:
            short = runs.primary.better(goal, one.mean)
            (missed if short else reached).append(f"{method} ({runs.primary.text(one.mean)})")
    return reached, missed


def making(name: str, setup: Setup, runs: Runs) -> str:
    """Return times, machine, versions, commits and the commands that make everything again."""
    seconds = [run["budget"]["seconds"] for run in runs.every]
    machines = sorted({machine_text(run) for run in runs.every})
    versions = sorted({", ".join(f"{k} {v}" for k, v in run["versions"].items()) for run in runs.every})
    commits = sorted({str(run["commit"]) for run in runs.every})
    spent = f"{seconds_text(min(seconds))} to {seconds_text(max(seconds))}, median {statistics.median(seconds):.0f} s"
    lines = [
        f"A run took {spent}, evaluation included, on {'; '.join(machines)}. Commit {'; '.join(commits)}. "
        f"{'; '.join(versions)}.",
        commands(setup, runs),
        f"Every case's metrics, every round's validation {runs.primary.title} and hashes: [runs/{name}](runs/{name}). "
        f"All scores as rows: [{name}.csv]({name}.csv); the first table for LaTeX: [{name}.tex]({name}.tex).",
        "This page is written from those files by `sitelora compare --only-page`; do not edit it.",
    ]
    return "\n\n".join(lines)


def commands(setup: Setup, runs: Runs) -> str:
    """Return the commands that make every run again, as a Markdown block."""
    lines = [setup.prepare] if setup.prepare else []
    lines += [c if setup.drawn else f"{c} --data data" for c in sorted({run["command"] for run in runs.every})]
    return "```sh\n" + "\n".join(lines) + "\n```"


def _steps_text(steps: int | None) -> str:
    """Return how long an epoch is, where it is not every picture once."""
    return f" of {count_text(steps, 'step')} at every site" if steps else ""


def machine_text(run: Run) -> str:
    """Return what a run had to itself."""
    hardware = run["hardware"]
    threads, beside = run["budget"]["torch_threads"], hardware["runs_at_a_time"]
    instructions = f" ({hardware['instructions']})" if "instructions" in hardware else ""  # older files lack them
    processor = hardware.get("gpu") or hardware["processor"] + instructions
    return f"{processor}, {count_text(threads, 'thread')} a run, {count_text(beside, 'run')} at a time"


def _chapter(title: str, head: list[str], rows: list[list[str]], *, note: str = "", level: int = 2) -> list[str]:
    """Return title, note and table, nothing without rows."""
    return [f"{'#' * level} {title}", note, tables.markdown(head, rows)] if rows else []
