"""Do the shipped jobs survive? Rate and scale chosen by validation, then three seeds in bf16 and in fp32.

    python benchmarks/recipes.py --data data                       every job, as many runs as are missing
    python benchmarks/recipes.py --data data --jobs iat_lungs --minutes 60
    python benchmarks/recipes.py --only-table                      the table from the files that are there

`--data` holds `lungs`, `cells` (`sitelora prepare`) and `prostate`, the drawn phantom (`sitelora prepare
prostate_phantom`). First a job's small grid runs with seed 0 in this processor's own precision; the setting is chosen
by the served model's validation score, each site counting alike, among the settings in none of whose runs a model
falls; of settings less than 0.005 apart the one that falls least. Test cases play no part. Then the chosen setting runs
with three seeds, first in this precision, then in the other (a processor without bf16 computes its products in fp32 and
rounds them: `rounded_bf16.py`; the page says so); where a model falls in one of these (by validation,
again), the setting is passed over and the next one has its turn. One JSON a run in `results/recipes`: stopped at any
moment, the same command goes on. The table is `results/recipes.json`; it names what does not hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes_page import page

from sitelora.comparison.evidence.loop import keep_running, one_thread

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "recipes"
PASSED_OVER = RESULTS / "passed_over"
TABLE = HERE / "results" / "recipes.json"
PAGE = HERE.parent / "docs" / "results" / "recipes.md"
COMMAND = "python benchmarks/recipes.py --data data"
PRECISIONS = ("bf16", "fp32")
SEEDS = (0, 1, 2)
MANY_CASES, WITHIN_MANY, WITHIN_FEW = 30, 0.01, 0.02
LARGEST_FALL = 0.05
NOT_TOLD_APART = 0.005
"""Difference in mean validation Dice below which two settings count as equal (our choice)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A job, and what is tried for it.

    Args:
        job: name of its folder in `jobs/`. grid: settings to choose from. otherwise: those that are tried only where a
            model falls in each of the grid. fixed: settings of all its runs.
    """

    job: str
    grid: tuple[Mapping[str, Any], ...]
    otherwise: tuple[Mapping[str, Any], ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _grid(rates: Sequence[float], *, scale: float | None = None) -> tuple[dict[str, Any], ...]:
    return tuple({"learning_rate": rate} | ({"method#scale": scale} if scale else {}) for rate in rates)


RATES = (0.004, 0.002)
RECIPES = {
    recipe.job: recipe
    for recipe in (
        Recipe(
            job="iat_lungs", grid=_grid(RATES, scale=4.0), otherwise=_grid(RATES, scale=2.0), fixed={"batch_size": 4}
        ),
        Recipe(job="iat_cells", grid=_grid(RATES, scale=4.0), otherwise=_grid(RATES, scale=2.0)),
        Recipe(job="iat_prostate", grid=_grid(RATES, scale=4.0)),
        Recipe(job="flap_sam_prostate", grid=_grid((0.001, 0.0015)), fixed={"max_gradient_norm": 1.0}),
        Recipe(job="fedsca_prostate", grid=_grid(RATES)),
    )
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One federation: a job under a setting, in a precision, from a seed."""

    job: str
    setting: Mapping[str, Any]
    precision: str
    seed: int

    def __str__(self) -> str:
        return self.file.stem

    @property
    def file(self) -> Path:
        words = "_".join(
            f"{key.rpartition('#')[2].removeprefix('learning_')}{value:g}" for key, value in self.setting.items()
        )
        return RESULTS / f"{self.job}_{words}_{self.precision}_seed{self.seed}.json"

    def read(self) -> dict[str, Any] | None:
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else None


def validation(record: Mapping[str, Any]) -> float:
    """Return the served model's validation score, each site counting alike."""
    scores = [site["served"]["validation"] for site in record["sites"].values()]
    return sum(scores) / len(scores)


def falls_anywhere(recipe: Recipe, setting: Mapping[str, Any]) -> float:
    """Return the largest fall of a model in any run of this setting, of whatever seed, precision and processor.

    A block stands on one kind of processor; runs of another kind in which a model fell are kept in `passed_over`.
    """
    runs = [Run(job=recipe.job, setting=setting, precision=p, seed=s) for p in PRECISIONS for s in SEEDS]
    files = [folder / run.file.name for run in runs for folder in (RESULTS, PASSED_OVER)]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    return max(map(largest_fall, found), default=0.0)


def largest_fall(record: Mapping[str, Any]) -> float:
    """Return how far the received or the trained model fell below an earlier round's, at any site, by validation."""
    worst = 0.0
    for site in record["sites"].values():
        for course in (site["received"], site["trained"]):
            best = 0.0
            for score in course:
                best = max(best, score)
                worst = max(worst, best - score)
    return worst


def to_try(recipe: Recipe) -> tuple[Mapping[str, Any], ...]:
    """Return the settings among which is chosen: the grid, and the others where a model falls in each of it."""
    steady = any(falls_anywhere(recipe, setting) <= LARGEST_FALL for setting in recipe.grid)
    return recipe.grid if steady else recipe.grid + recipe.otherwise


def choose(recipe: Recipe) -> Mapping[str, Any] | None:
    """Return the setting that validation prefers among those in which nothing falls; None while a run is missing.

    Where validation does not tell settings apart, the one that falls least: its last model is its best one, so what a
    site is served does not hang on which early round was lucky.
    """
    steady = [s for s in to_try(recipe) if falls_anywhere(recipe, s) <= LARGEST_FALL] or to_try(recipe)
    records = [(s, grid_run(recipe, s).read()) for s in steady]
    found = [(s, record) for s, record in records if record is not None]
    if len(found) < len(records):
        return None
    best = max(validation(record) for _, record in found)
    alike = [(s, record) for s, record in found if validation(record) >= best - NOT_TOLD_APART]
    return min(alike, key=lambda pair: largest_fall(pair[1]))[0]


def missing(recipes: Sequence[Recipe]) -> Iterator[Run]:
    """Yield the runs that have no file, the choices first; a setting in which a model has fallen needs none."""
    for recipe in recipes:
        if choose(recipe) is None:
            yield from (run for run in (grid_run(recipe, s) for s in to_try(recipe)) if run.read() is None)
    for in_grids, seed in [(i, s) for i in (True, False) for s in SEEDS]:
        for recipe in recipes:
            chosen = choose(recipe)
            if chosen is not None:
                precision = next(p for p in PRECISIONS if (p == grid_precision(recipe)) is in_grids)
                run = Run(job=recipe.job, setting=chosen, precision=precision, seed=seed)
                if run.read() is None:
                    yield run


def make(run: Run, data: Path) -> None:
    """Run one federation in this process and write its file."""
    import torch
    from rounded_bf16 import rounded_bf16

    from sitelora.comparison.run import commit
    from sitelora.federation.in_process import run_in_process
    from sitelora.federation.job_folder import JobFolder
    from sitelora.networks.precision import has_bf16
    from sitelora.typed_json import to_json

    job = JobFolder.read(HERE.parent / "jobs" / run.job).job
    recipe = RECIPES[run.job]
    given = {"torch_threads": 1, **recipe.fixed, **run.setting, "precision": run.precision, "seed": run.seed}
    sites: dict[str, dict[str, Any]] = {}

    def score(members: Mapping[str, Any], packet: Any) -> None:
        for name, site in members.items():
            served = site.served(packet(name))
            models = {"base": site.served_models(packet(name))["base"], "personal": served.candidate.model}
            scores = {kind: site.scores.test(model, site.folder) for kind, model in models.items()}
            sites[name] = {
                "test_cases": scores["personal"]["case_count"],
                "validation_cases": len(site.folder.cases("validation")),
                **{
                    kind: {key: found[key.replace("dice", "score")] for key in ("dice", "dice_worst", "dice_ci95")}
                    for kind, found in scores.items()
                },
                "served": served.to_json(),
            }

    rounded = run.precision == "bf16" and not has_bf16(torch.device("cpu"))
    computed = rounded_bf16() if rounded else nullcontext()
    with tempfile.TemporaryDirectory(prefix="sitelora-recipes-") as place, computed:
        result = run_in_process(
            bundle=job.bundle,
            dataset=job.dataset,
            sites=job.sites,
            rounds=job.rounds,
            overrides={**job.settings, **given},
            data=data,
            home_folder=Path(place),
            evaluate=False,
            afterwards=score,
        )
    for name, site in sites.items():
        metrics = [each.sites[name].metrics for each in result.rounds]
        site["received"] = [round(m["score_received"], 5) for m in metrics] + [
            round(site["served"]["validation_received"], 5)
        ]
        site["trained"] = [round(m["score_personal"], 5) for m in metrics]
        site["steps"] = int(sum(m["steps"] for m in metrics))
        shares = [m["regularizer_share"] for m in metrics if "regularizer_share" in m]
        site["regularizer_share"] = [round(share, 4) for share in shares]
        site["clipped_steps"] = int(sum(m.get("clipped_steps", 0) for m in metrics))
    record = {
        "format": 1,
        "job": run.job,
        "setting": dict(run.setting),
        "precision": run.precision,
        "seed": run.seed,
        "command": COMMAND,
        "commit": commit(),
        "bundle": job.bundle,
        "settings": {**job.settings, **given},
        "rounds": job.rounds,
        "image_size": result.image_size,
        "base": to_json(result.base),
        "versions": result.versions,
        "hardware": {**result.hardware, **({"bf16": "products in fp32, rounded"} if rounded else {})},
        "sites": dict(sorted(sites.items())),
        "warnings": list(result.warnings),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = run.file.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(run.file)


def table() -> dict[str, Any]:
    """Return what the files say: the choice, every site's spread over seeds and precisions, and what does not hold."""
    found: dict[str, Any] = {"command": COMMAND, "jobs": {}}
    for name, recipe in RECIPES.items():
        own, chosen = grid_precision(recipe), choose(recipe)
        if chosen is None:
            continue
        tried, grid_by = [], set[str]()
        for setting in to_try(recipe):
            record, fall = grid_run(recipe, setting).read(), falls_anywhere(recipe, setting)
            entry: dict[str, Any] = {**setting, "validation": None, "fall": round(fall, 4)}
            if record is not None:
                grid_by.add(f"{record['commit']} on {kind(record)}")
                entry["validation"] = round(validation(record), 4)
            tried.append(entry)
        cells = {(p, s): Run(job=name, setting=chosen, precision=p, seed=s).read() for s in SEEDS for p in PRECISIONS}
        done = {key: record for key, record in cells.items() if record is not None}
        first = next(iter(done.values()))
        rows, broken = {}, []
        for site, entry in first["sites"].items():
            scores = {
                f"{p} seed {s}": round(record["sites"][site]["personal"]["dice"], 4) for (p, s), record in done.items()
            }
            base = {f"{p} seed {s}": round(record["sites"][site]["base"]["dice"], 4) for (p, s), record in done.items()}
            spread = round(max(scores.values()) - min(scores.values()), 4)
            bound = WITHIN_MANY if entry["test_cases"] >= MANY_CASES else WITHIN_FEW
            rows[site] = {
                "test_cases": entry["test_cases"],
                "served": scores,
                "base": base,
                "spread": spread,
                "bound": bound,
            }
            if spread > bound:
                rows[site]["last_validation"] = {
                    f"{p} seed {s}": {model: record["sites"][site][model][-1] for model in ("received", "trained")}
                    for (p, s), record in done.items()
                }
                broken.append(f"{site}: runs end {spread:.4f} apart, more than {bound}")
            broken += [f"{site}: {run} is not above the base" for run in scores if scores[run] <= base[run]]
        falls = {f"{p} seed {s}": round(largest_fall(record), 4) for (p, s), record in done.items()}
        broken += [f"{run}: a model falls by {fall:.4f}" for run, fall in falls.items() if fall > LARGEST_FALL]
        found["jobs"][name] = {
            "chosen": dict(chosen),
            "fixed": dict(recipe.fixed),
            "tried": tried,
            "tried_in": own,
            "runs": f"{len(done)} of {len(cells)}",
            "tried_by": sorted(grid_by),
            "bf16_by": sorted(
                {record["hardware"].get("bf16", "instructions") for (p, _), record in done.items() if p == "bf16"}
            ),
            "processors": sorted({kind(record) for record in done.values()}),
            "sites": rows,
            "largest_fall": falls,
            "largest_fall_allowed": LARGEST_FALL,
            "does_not_hold": broken,
        }
    return found


def grid_run(recipe: Recipe, setting: Mapping[str, Any]) -> Run:
    """Return the run by which a setting is judged."""
    return Run(job=recipe.job, setting=setting, precision=grid_precision(recipe), seed=0)


def grid_precision(recipe: Recipe) -> str:
    """Return the precision in which a job's grid runs: that of most of its files, else this processor's own."""
    there = {
        p: sum(Run(job=recipe.job, setting=s, precision=p, seed=0).file.exists() for s in recipe.grid)
        for p in PRECISIONS
    }
    if any(there.values()):
        return max(PRECISIONS, key=lambda precision: there[precision])
    import torch

    from sitelora.networks.precision import AUTO, resolve_precision

    return resolve_precision(AUTO, torch.device("cpu"))


def kind(record: Mapping[str, Any]) -> str:
    """Return the kind of processor of a run: models of one name differ in their vector instructions."""
    hardware = record["hardware"]
    return f"{hardware['processor']} ({hardware['instructions']})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="root of the site folders")
    parser.add_argument("--jobs", default=",".join(RECIPES), help="comma-separated; all by default")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further run after so many")
    parser.add_argument("--at-a-time", type=int, default=1, help="runs that share the machine")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        make(Run(**json.loads(args.one)), args.data)
        return 0
    recipes = [RECIPES[name] for name in args.jobs.split(",")]
    failed = 0 if args.only_table else run_missing(recipes, args)
    found = table()
    TABLE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(found, command=COMMAND), encoding="utf-8")
    for name, job in found["jobs"].items():
        said = "; ".join(job["does_not_hold"]) or "all bounds hold in these"
        print(f"{name}: {job['runs']} runs, chosen {job['chosen']}; {said}")
    return 1 if failed else 0


def run_missing(recipes: Sequence[Recipe], args: argparse.Namespace) -> int:
    """Make the missing runs, each in a process of its own; return how many failed."""

    def start(run: Run) -> subprocess.Popen[bytes]:
        one = json.dumps({"job": run.job, "setting": dict(run.setting), "precision": run.precision, "seed": run.seed})
        return one_thread([__file__, "--data", str(args.data), "--one", one])

    def tell(line: str) -> None:
        print(line, flush=True)

    return keep_running(lambda: missing(recipes), start, minutes=args.minutes, at_a_time=args.at_a_time, tell=tell)


if __name__ == "__main__":
    sys.exit(main())
