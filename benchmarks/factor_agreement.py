"""Which factors sites agree on: from one start every site trains alone, then dA and dB are compared, module by module.

    python benchmarks/factor_agreement.py                 makes the runs that are missing, then the page
    python benchmarks/factor_agreement.py --page          writes the page from the runs

IAT (arXiv 2606.08687) shares B in the encoder and A in the decoder, because sites whose images look different should
still agree on B in the encoder, and sites that draw differently on A in the decoder. Here that premise itself is
measured, without any sharing, on the phantom whose two knobs move one of both (`sitelora.data.phantom.shifts`), with
the same men in all settings. Agreement is the cosine of what two sites' training has added to the same start, mean over
pairs of sites; where sites are alike they still have different men, so that setting is the ceiling. A factor that loses
less of it to a shift is the better one to share there. Nothing is tested here, so no test case is read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sitelora.comparison.run import commit
from sitelora.comparison.tables import markdown
from sitelora.data.phantom.shifts import SITES, Shifts, make_shifts
from sitelora.federation.files import write_json
from sitelora.federation.in_process import run_in_process
from sitelora.federation.machine import hardware, versions
from sitelora.federation.site import Site
from sitelora.networks.precision import resolve_precision

HERE = Path(__file__).resolve().parent
RUNS = HERE / "results" / "factor_agreement"
PAGE = HERE.parent / "docs" / "results" / "factor_agreement.md"
BUNDLE, METHOD, ROUNDS, STEPS, SEEDS = "iat_segmentation", "local", 3, 50, 3
KNOBS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (2, 2))
SETTINGS = {
    "method": METHOD,
    "pictures": True,
    "image_size": 128,
    "batch_size": 2,
    "epochs": 1,
    "steps_per_epoch": STEPS,
    "validate_every": ROUNDS,
    "learning_rate": 0.002,
    "torch_threads": 1,
}
PARTS = {"image_encoder": "encoder", "mask_decoder": "decoder"}


def agreements(moved: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, float]:
    """Return the mean cosine over pairs of sites of every factor.

    Args:
        moved: by site, what training has added to each factor.
    """
    first = next(iter(moved.values()))
    found = {}
    for name in sorted(name for name in first if name.endswith((".A", ".B"))):
        flat = [values[name].double().flatten() for values in moved.values()]
        pairs = [torch.nn.functional.cosine_similarity(a, b, dim=0) for a, b in itertools.combinations(flat, 2)]
        found[name] = round(float(torch.stack(pairs).mean()), 5)
    return found


def measured(appearance: float, supervision: float, seed: int) -> dict[str, Any]:
    """Train every site alone at one setting of the knobs and return the agreement of every factor."""
    moved: dict[str, dict[str, torch.Tensor]] = {}

    def compare(sites: Mapping[str, Site], _: object) -> None:
        for name, site in sites.items():
            assert site.trained is not None
            start = site.local_round.initial
            moved[name] = {factor: value - start[factor] for factor, value in site.trained.values.items()}

    with tempfile.TemporaryDirectory(prefix="factor-agreement-") as place:
        data = Path(place) / "data"
        make_shifts(data, shifts=Shifts(appearance=appearance, supervision=supervision))
        result = run_in_process(
            bundle=BUNDLE,
            dataset="prostate_shifts",
            sites=SITES,
            rounds=ROUNDS,
            overrides={**SETTINGS, "seed": seed},
            data=data,
            home_folder=Path(place) / "home",
            evaluate=False,
            afterwards=compare,
        )
    return {
        "what": "agreement of factors between sites that train alone from one start",
        "command": "python benchmarks/factor_agreement.py",
        "commit": commit(),
        "appearance": appearance,
        "supervision": supervision,
        "seed": seed,
        "rounds": ROUNDS,
        "settings": SETTINGS,
        "precision": resolve_precision("auto", torch.device("cpu")),
        "fingerprint": result.fingerprint,
        "hardware": hardware(),
        "versions": versions(),
        "cosines": agreements(moved),
    }


def by_part(run: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return the mean over modules, by part of the network and factor."""
    cells: dict[tuple[str, str], list[float]] = {}
    for name, value in run["cosines"].items():
        cells.setdefault((PARTS[name.split(".")[0]], name[-1]), []).append(value)
    return {cell: statistics.fmean(values) for cell, values in cells.items()}


def page(runs: list[dict[str, Any]]) -> str:
    """Return the page: agreement by setting, and what a shift takes from it."""
    columns = [("encoder", "A"), ("encoder", "B"), ("decoder", "A"), ("decoder", "B")]
    means: dict[tuple[float, float], dict[tuple[str, str], list[float]]] = {}
    for run in runs:
        cell = means.setdefault((run["appearance"], run["supervision"]), {column: [] for column in columns})
        for column, value in by_part(run).items():
            cell[column].append(value)
    rows = []
    for knobs, cell in sorted(means.items()):
        told = [f"{statistics.fmean(cell[c]):.3f} ± {statistics.pstdev(cell[c]):.3f}" for c in columns]
        rows.append([f"{knobs[0]:g}", f"{knobs[1]:g}", *told])
    head = ["appearance", "supervision", *(f"d{factor}, {part}" for part, factor in columns)]
    lines = [
        "<!-- written by `python benchmarks/factor_agreement.py --page`; do not edit -->",
        "# Which factors sites agree on\n",
        "IAT (arXiv 2606.08687) shares B in the encoder and A in the decoder. Its premise, as we read it: sites whose "
        "images look different still agree on B in the encoder, sites that draw differently on A in the decoder. Here "
        f"six sites train alone from one start ({ROUNDS * STEPS} steps of two slices, rate "
        f"{SETTINGS['learning_rate']}, our choice) on the [phantom with two knobs](../data.md), the same men in all "
        "settings. A number is the mean cosine between two sites of what training has added to a factor, over pairs of "
        f"sites and modules; mean and standard deviation over {len({run['seed'] for run in runs})} seeds.\n",
        markdown(head, rows),
        *(["\n## What it says\n", *(f"- {line}" for line in verdicts(means))] if (0, 0) in means else []),
        "\n## How it was made\n",
        f"{len(runs)} runs on {', '.join(sorted({run['hardware']['processor'] for run in runs}))} "
        f"({', '.join(sorted({str(run['hardware']['instructions']) for run in runs}))}), "
        f"{', '.join(sorted({run['precision'] for run in runs}))}, 128 px, commits "
        f"{', '.join(sorted({run['commit'] for run in runs}))}. "
        "Every module's cosine: `benchmarks/results/factor_agreement`.\n",
        "```sh\npython benchmarks/factor_agreement.py\n```",
    ]
    return "\n".join(lines) + "\n"


def verdicts(means: Mapping[tuple[float, float], Mapping[tuple[str, str], list[float]]]) -> list[str]:
    """Return what the premise says beside what was found, part by part."""
    found = []
    for part, knobs, shared, kept in (("encoder", (2, 0), "B", "A"), ("decoder", (0, 2), "A", "B")):
        if knobs not in means:
            continue
        shift = "appearance" if knobs[0] else "supervision"
        lost = {f: [a - b for a, b in zip(means[0, 0][part, f], means[knobs][part, f], strict=True)] for f in "AB"}
        more = [b - a for a, b in zip(lost[shared], lost[kept], strict=True)]
        holds = min(more) > 0
        found.append(
            f"{part}, {shift} turned to its end: d{shared}, which IAT shares, loses "
            f"{statistics.fmean(lost[shared]):.3f} of its agreement, d{kept} {statistics.fmean(lost[kept]):.3f}; "
            + ("the premise holds in every seed" if holds else "the premise does not hold in every seed")
            + f". d{shared} agrees at {statistics.fmean(means[knobs][part, shared]):.3f}, d{kept} at "
            f"{statistics.fmean(means[knobs][part, kept]):.3f}."
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the page and nothing else")
    args = parser.parse_args()
    for (appearance, supervision), seed in itertools.product(KNOBS, range(SEEDS)):
        file = RUNS / f"a{appearance}_s{supervision}_seed{seed}.json"
        if not args.page and not file.is_file():
            run = measured(appearance, supervision, seed)
            write_json(file, run, private=False)
            told = ", ".join(f"{part} d{factor} {value:.3f}" for (part, factor), value in sorted(by_part(run).items()))
            print(f"appearance {appearance}, supervision {supervision}, seed {seed}: {told}", flush=True)
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RUNS.glob("*.json"))]
    PAGE.write_text(page(runs), encoding="utf-8")
    print(PAGE.relative_to(HERE.parent))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
