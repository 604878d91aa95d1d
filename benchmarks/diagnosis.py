"""Does the adapted model of `med_duallora_cine` beat the base's linear probe at every vendor?

    python benchmarks/diagnosis.py --data data --choose   the settings from which the job's was chosen, by validation
    python benchmarks/diagnosis.py --data data            the job as it is shipped, three seeds, on test cases
    python benchmarks/diagnosis.py --only-table           from the files that are there

`--data` holds `cine`, the drawn hearts (`sitelora prepare cine_phantom`). One JSON a run in `results/diagnosis`: a
stopped command goes on with the runs that are missing. What is scored is what a vendor is served, and the probe is that
of `sitelora probe`: both are chosen by validation cases and scored on the same test cases. Runs of `--choose` are never
scored on test cases.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitelora.comparison.tables import markdown

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "diagnosis"
PAGE = HERE.parent / "docs" / "results" / "diagnosis.md"
PAGE_HEAD = """# Does adapting beat a linear probe of the base?

`med_duallora_cine` on the drawn hearts of three vendors: balanced accuracy on test cases of the linear probe, of the
base with its untrained head, of the model that a vendor is served, and of the one that a vendor gets that took no part.
Drawn hearts say nothing about patients, and the embedded base is small. This page is written from the files in
`benchmarks/results/diagnosis` by

```sh
python benchmarks/diagnosis.py --only-table
```

The probe is each vendor's own, of its 40 training stacks; the adapted model has learnt from those of all three. So this
compares what a vendor can have without the others and with them, and not adapters with a head: a probe on all vendors'
stacks in one place is in the base's manifest (`custom/sitelora/networks/weights/cine_tiny.json`).

Precision `auto` is bf16 on a processor that has instructions for it (AVX512 below) and fp32 elsewhere.

Tried for the job, seed 0, chosen by the served models' validation score (0 blocks are all of them):
"""
JOB = "med_duallora_cine"
SEEDS = (0, 1, 2)
TRIED: Mapping[str, Mapping[str, Any]] = {
    f"tried_rate{rate:g}_blocks{blocks}": {"learning_rate": rate, "method#blocks": blocks}
    for rate, blocks in ((0.001, 2), (0.002, 2), (0.004, 2), (0.008, 2), (0.002, 0))
}
"""Settings from which the job's was chosen, with seed 0; 0 blocks are all."""
SHIPPED: Mapping[str, Mapping[str, Any]] = {
    **{f"seed{seed}": {"seed": seed} for seed in SEEDS},
    "seed0_fp32": {"seed": 0, "precision": "fp32"},
}
"""The job as it is, and once in fp32 where a processor has instructions for bf16: a recipe is not to hang on them."""


def file_of(run: str) -> Path:
    return RESULTS / f"{JOB}_{run}.json"


def read(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file_of(run).read_text(encoding="utf-8"))
    return found


def record(data: Path, values: Mapping[str, Any], *, test: bool) -> dict[str, Any]:
    """Run the job in this process and return every vendor's scores; those of test cases only where asked for."""
    from sitelora.comparison.run import commit
    from sitelora.data.site_folder import SiteFolder, find_site_folder
    from sitelora.evaluation.linear_probe import LinearProbe
    from sitelora.federation.in_process import run_in_process
    from sitelora.federation.job_folder import JobFolder
    from sitelora.settings import read_settings
    from sitelora.typed_json import to_json

    job = JobFolder.read(HERE.parent / "jobs" / JOB).job
    given = {**job.settings, "torch_threads": 1, **values}
    sites: dict[str, dict[str, Any]] = {}

    def score(members: Mapping[str, Any], packet: Any) -> None:
        for name, site in members.items():
            served, models = site.served(packet(name)), site.served_models(packet(name))
            sites[name] = {"served": served.to_json()}
            for kind, model in models.items() if test else ():
                if not isinstance(model, str):
                    scores = site.scores.test(model, site.folder, fitted=kind != "unseen")
                    sites[name][kind] = {key: scores[key] for key in ("score", "score_ci95", "set_scores")}

    with tempfile.TemporaryDirectory(prefix="sitelora-diagnosis-") as place:
        result = run_in_process(
            bundle=job.bundle,
            dataset=job.dataset,
            sites=job.sites,
            rounds=job.rounds,
            overrides=given,
            data=data,
            home_folder=Path(place),
            evaluate=False,
            afterwards=score,
        )
    if test:
        probe = LinearProbe(read_settings(job.bundle, given, sites=job.sites))
        for name, entry in sites.items():
            found = probe.of(SiteFolder.read(find_site_folder(job.dataset, name, data)))
            entry["probe"] = {key: (found.test or {}).get(key) for key in ("score", "score_ci95")}
    return {
        "format": 1,
        "job": JOB,
        "command": "python benchmarks/diagnosis.py --data data",
        "commit": commit(),
        "settings": given,
        "rounds": job.rounds,
        "image_size": result.image_size,
        "base": to_json(result.base),
        "versions": result.versions,
        "hardware": result.hardware,
        "sites": sites,
    }


def validation(found: Mapping[str, Any]) -> float:
    """Return the served models' validation score, each vendor counting alike."""
    return statistics.fmean(site["served"]["validation"] for site in found["sites"].values())


def make(run: str, data: Path) -> None:
    """Make one run and write its file."""
    found = record(data, {"seed": 0, **TRIED.get(run, {}), **SHIPPED.get(run, {})}, test=run in SHIPPED)
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = file_of(run).with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    partial.replace(file_of(run))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="root of the site folders")
    parser.add_argument("--at-a-time", type=int, default=1, help="runs that share the machine")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--choose", action="store_true", help="run the settings from which the job's was chosen")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        make(args.one, args.data)
        return 0
    wanted = () if args.only_table else TRIED if args.choose else SHIPPED
    waiting = [run for run in wanted if not file_of(run).is_file()]
    while waiting:
        some, waiting = waiting[: args.at_a_time], waiting[args.at_a_time :]
        command = [sys.executable, __file__, "--data", str(args.data), "--one"]
        going = [subprocess.Popen([*command, run], env={**os.environ, "OMP_NUM_THREADS": "1"}) for run in some]
        if any([process.wait() for process in going]):
            return 1
    table()
    return 0


def table() -> None:
    """Print the validation score of what was tried and every vendor's test scores by seed; write the page of both."""
    tried = {run: read(run) for run in TRIED if file_of(run).is_file()}
    shipped = {run: read(run) for run in SHIPPED if file_of(run).is_file()}
    lines = [PAGE_HEAD]
    for run, found in tried.items():
        values = ", ".join(f"`{key}` {value:g}" for key, value in TRIED[run].items())
        lines.append(f"- {values}: validation {validation(found):.3f}")
    kinds = ("probe", "base", "personal", "unseen")
    rows, beside = [], []
    for found in shipped.values():
        precision = found["settings"].get("precision", "auto")
        for name, site in sorted(found["sites"].items()):
            scores = {kind: site[kind]["score"] for kind in kinds}
            beside.append("above" if scores["personal"] > scores["probe"] else "not above")
            told = (f"{score:.3f}" for score in scores.values())
            rows.append((name, str(found["settings"]["seed"]), precision, *told, beside[-1]))
    machines = [found["hardware"] for found in (*tried.values(), *shipped.values())]
    processors = ", ".join(sorted({f"{machine['processor']} ({machine['instructions']})" for machine in machines}))
    lines += ["", markdown(("vendor", "seed", "precision", *kinds, "personal beside the probe"), rows)]
    lines += ["", f"**Above the probe in {beside.count('above')} of {len(beside)}.** Made on {processors}.", ""]
    print("\n".join(lines[1:]))
    PAGE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
