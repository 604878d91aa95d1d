"""The page of `bench.py`: newest figures with their goals, and the history over commits, by kind of processor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sitelora.comparison.tables import markdown

HEAD = """# How fast, how small

Written from `benchmarks/results/bench` by `make bench` and `make bench-full`; what each part does is said on top of its
file in `benchmarks/`. Times are of a processor core, so that other work on the machine counts less; ratios come from
contenders that took turns in one run. A goal is what the project has set itself; where it is not reached, the same row
says where the time or the memory is (a step's whole profile is `where` in its part's file). Kinds of processor are
never mixed. A part that the newest run left out stands below it as it was found last.
"""
COLUMNS = 6


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of all runs, newest last in a history, one section a kind of processor."""
    kinds: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run["date"]):
        machine = run["hardware"]
        kinds[f"{machine['processor']}, {machine['instructions']}, {machine['cores']} cores"].append(run)
    parts = [HEAD]
    for kind in sorted(kinds):
        parts += [f"## {kind}", _newest(kinds[kind])]
        if len(kinds[kind]) > 1:
            parts += ["### Over commits", _history(kinds[kind][-COLUMNS:])]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _newest(runs: Sequence[Mapping[str, Any]]) -> str:
    run, told, figures = runs[-1], set[str](), list[tuple[str, Mapping[str, Any]]]()
    for each in reversed(runs):
        at = "" if each is run else f" (at {each['commit']})"
        figures += [(at, figure) for figure in each["figures"] if figure["part"] not in told]
        told |= {figure["part"] for figure in each["figures"]}
    loads = [f"{name} {part.get('load_before', 'unknown')}" for name, part in run["parts"].items()]
    minutes = sum(part["minutes"] for part in run["parts"].values())
    failed = [f"{name} failed ({part['failed']})" for name, part in run["parts"].items() if "failed" in part]
    packages = ", ".join(f"{name} {run['versions'][name]}" for name in ("torch", "monai", "nvflare"))
    words = (
        f"Commit {run['commit']}, {run['date']}; {packages}. {minutes:.0f} minutes; load of the machine before each "
        f"part: {', '.join(loads)}." + (f" **{'; '.join(failed)}.**" if failed else "")
    )
    rows = []
    for at, figure in figures:
        goal, more = figure["goal"], figure["more"]
        asked = "" if goal is None else f"{'at least' if more else 'at most'} {goal:g}"
        why = f": {figure['why']}" if figure.get("why") else ""
        said = {None: "", True: "reached", False: f"**not reached**{why}"}[figure["reached"]]
        rows.append((figure["part"], figure["what"] + at, f"{figure['value']:g} {figure['unit']}".strip(), asked, said))
    return words + "\n\n" + markdown(("part", "figure", "value", "goal", ""), rows)


def _history(runs: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys((f["part"], f["what"], f["unit"]) for run in runs for f in run["figures"]))
    head = ("part", "figure", *(f"{run['commit']}, {run['date']}" for run in runs))
    rows = []
    for part, what, unit in names:
        values = [{(f["part"], f["what"]): f["value"] for f in run["figures"]}.get((part, what)) for run in runs]
        rows.append((part, f"{what}, {unit}", *("" if value is None else f"{value:g}" for value in values)))
    return markdown(head, rows)
