"""Learning curves of the benchmark's own sites: what a site could have told beforehand of what joining brought it.

    python benchmarks/advice.py --data data             makes the curves that are missing, one JSON each
    python benchmarks/advice.py --data data --list      says which those are

Every place is a site as an experiment arranges it in its first repetition: E1's and E2's hospitals, E4's simulated
sites. A curve looks at a site's training and validation cases alone (`sitelora.advice.curve`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from sitelora.advice.curve import RATE, learning_curve
from sitelora.comparison.evidence.arrangement import sites_of, write_arranged
from sitelora.comparison.evidence.experiment import Experiment, find_experiment
from sitelora.comparison.run import commit
from sitelora.data.site_folder import SiteDataError
from sitelora.federation.files import write_json
from sitelora.federation.machine import hardware, versions
from sitelora.networks.precision import resolve_precision
from sitelora.typed_json import to_json

HERE = Path(__file__).resolve().parent
CURVES = HERE / "results" / "advice"
EXPERIMENTS = ("e1", "e2", "e4")
SEED = 0


def places() -> Iterator[tuple[str, Experiment, str]]:
    """Yield name, experiment and cell of every arrangement in which all methods ran."""
    for name in EXPERIMENTS:
        asks = find_experiment(name)
        for cell in asks.cells:
            if {"local"} < asks.rows(cell).keys():
                yield name, asks, cell


def curve_of(name: str, asks: Experiment, cell: str, site: str, data: Path) -> dict[str, object]:
    """Return a site's curve as its file says it; of a site with too few patients, why there is none."""
    told: dict[str, object] = {
        "what": "learning curve of a site alone",
        "command": "python benchmarks/advice.py --data data",
        "commit": commit(),
        "experiment": name,
        "cell": cell,
        "site": site,
        "seed": SEED,
        "rate": RATE,
        "precision": resolve_precision("auto", torch.device("cpu")),
        "hardware": hardware(),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory(prefix="advice-") as place:
        lists = write_arranged(data, asks, asks.cells[cell], SEED, Path(place))
        told["cases"] = {split: len(names) for split, names in lists[site].items()}
        try:
            curve = learning_curve(asks.dataset, site, Path(place), seed=SEED, overrides={"image_size": 128})
        except SiteDataError as error:
            return {**told, "none": str(error).replace(place, "DATA")}
    return {**told, "curve": to_json(curve), "doubling": curve.doubling}


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="root of the site folders")
    parser.add_argument("--list", action="store_true", help="make nothing, say which curves are missing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, asks, cell in places():
        for site in sites_of(asks, asks.cells[cell], SEED):
            file = CURVES / f"{name}_{cell}_{site}.json"
            if file.is_file():
                continue
            if args.list:
                print(file.name)
                continue
            write_json(file, curve_of(name, asks, cell, site, args.data.absolute()), private=False)
            print(file, flush=True)


if __name__ == "__main__":
    main()
