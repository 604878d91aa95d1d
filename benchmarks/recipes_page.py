"""The page of `recipes.py`: its table for people, as Markdown, every word of it from the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sitelora.comparison.tables import markdown

HEAD = """\
# Do the shipped jobs survive another seed and another precision?

Every job with the rate and scale that validation chose, three seeds, the frozen base in bf16 and in fp32. The numbers
are test Dice of the model that the site is served; the base is the same network before any training. Any two of a
site's six runs are to end within the bound; no received and no freshly trained model is to fall by more than 0.05 below
one of an earlier round, by validation. How the choice is made stands in `benchmarks/recipes.py`. This page is written
from `benchmarks/results/recipes.json` by
"""


def page(found: Mapping[str, Any], *, command: str) -> str:
    """Return the page of a table."""
    parts = [f"{HEAD}\n```sh\n{command}\n```"]
    for name, job in found["jobs"].items():
        broken = "; ".join(job["does_not_hold"])
        parts += [
            f"## {name}",
            _words(job),
            _table(job["sites"]),
            f"**What does not hold:** {broken}." if broken else _all_hold(job["runs"]),
            *([_apart(job["sites"])] if broken else []),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _words(job: Mapping[str, Any]) -> str:
    chosen = _setting({**job["chosen"], **job["fixed"]})
    tried = "; ".join(
        f"{_setting({k: v for k, v in one.items() if k not in ('validation', 'fall')})}: "
        + ("not run again" if one["validation"] is None else f"{one['validation']:.3f}")
        + (f" (a model falls by {one['fall']:.2f})" if one["fall"] > job["largest_fall_allowed"] else "")
        for one in job["tried"]
    )
    made = f"seed 0, {job['tried_in']}, by {'; '.join(job['tried_by'])}"
    by = "".join(f", bf16 by {by}" for by in job["bf16_by"] if by != "instructions")
    return (
        f"Chosen: {chosen}. Validation of what was tried ({made}): {tried}. {job['runs']} runs, on "
        f"{', '.join(job['processors'])}{by}. Largest fall: {max(job['largest_fall'].values()):.3f}."
    )


def _apart(sites: Mapping[str, Mapping[str, Any]]) -> str:
    """Say of the sites whose runs end apart how good, by validation, their last two models are.

    Where what all share stays far below what the site makes of it, the site is served its own last epochs, and another
    seed has other ones.
    """
    said = []
    for site, row in sites.items():
        last = row.get("last_validation")
        if last:
            received, trained = ([one[model] for one in last.values()] for model in ("received", "trained"))
            said.append(
                f"at {site} what it received {min(received):.3f} to {max(received):.3f}, after its own epochs "
                f"{min(trained):.3f} to {max(trained):.3f}"
            )
    return f"Validation of the last models over these runs: {'; '.join(said)}." if said else ""


def _all_hold(runs: str) -> str:
    done, _, planned = runs.partition(" of ")
    return "**All bounds hold.**" if done == planned else f"**So far, in {runs} runs, all bounds hold.**"


def _setting(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}` {value:g}" for key, value in values.items())


def _table(sites: Mapping[str, Mapping[str, Any]]) -> str:
    head = ["site", "test cases", *next(iter(sites.values()))["served"], "spread", "bound", "base"]
    rows = []
    for site, row in sites.items():
        served = (f"{dice:.3f}" for dice in row["served"].values())
        base = f"{max(row['base'].values()):.3f}"
        rows.append([site, str(row["test_cases"]), *served, f"{row['spread']:.3f}", str(row["bound"]), base])
    return markdown(head, rows)
