"""Write every job folder that is committed here: python jobs/export.py [FOLDER]. A test compares them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sitelora.comparison.setup import BUNDLE, find_setup
from sitelora.flare.recipe import FederationRecipe, export_job


def _as_compared(dataset: str, **values: Any) -> dict[str, Any]:
    """Return a job of ``iat_segmentation`` with the budget that `sitelora compare` gives every method."""
    setup = find_setup(dataset)
    plan = {"epochs": setup.epochs, "schedule_rounds": setup.rounds}
    return {
        "bundle": BUNDLE,
        "dataset": setup.dataset,
        "sites": list(setup.sites),
        "rounds": setup.rounds,
        "overrides": {**setup.overrides, **plan, **values},
    }


# 96 pixels cost half of 128 and are about as good on the phantom, so that the demo is a matter of minutes.
PROSTATE = {"image_size": 96, "epochs": 4, "learning_rate": 0.008, "schedule_rounds": 5}
JOBS: dict[str, dict[str, Any]] = {
    # Six sites of prostate volumes; without data of its own the simulator draws the phantom.
    "iat_prostate": {
        "bundle": "iat_segmentation",
        "dataset": "prostate",
        "sites": [f"site-{number}" for number in range(1, 7)],
        "rounds": 5,
        "min_sites": 4,
        "overrides": PROSTATE,
    },
    # Chest X-rays of two real hospitals: `sitelora prepare lungs` makes the site folders.
    "iat_lungs": _as_compared("lungs", learning_rate=0.008),
    # Blood cells of two real laboratories, cytoplasm and nucleus: `sitelora prepare cells` makes the site folders.
    "iat_cells": _as_compared("cells"),
    # FLAP-SAM's schedule is for 200 rounds. A short job needs a larger rate, less warm-up and a plan of its own: twice
    # its rounds, as the paper's code stops half-way through its plan. Epochs and batch are those of IAT's jobs.
    "flap_sam_prostate": {
        "bundle": "flap_sam_segmentation",
        "dataset": "prostate",
        "sites": [f"site-{number}" for number in range(1, 7)],
        "rounds": 5,
        "min_sites": 4,
        "overrides": {**PROSTATE, "learning_rate": 0.004, "schedule_rounds": 10, "warmup_steps": 10},
    },
}
JOBS["flap_sam_lungs"] = {
    **JOBS["iat_lungs"],
    "bundle": "flap_sam_segmentation",
    "overrides": {
        **JOBS["iat_lungs"]["overrides"],
        "learning_rate": 0.004,
        "schedule_rounds": 2 * JOBS["iat_lungs"]["rounds"],
        "warmup_steps": 10,
    },
}
# The bundle has iat_segmentation's settings, so the job has those of IAT's job: one is compared with the other.
for dataset in ("prostate", "lungs"):
    JOBS[f"fedsca_{dataset}"] = {**JOBS[f"iat_{dataset}"], "bundle": "fedsca_segmentation"}


def export_all(folder: Path) -> list[Path]:
    """Write all jobs below ``folder`` and return their folders."""
    return [export_job(FederationRecipe(name=name, **arguments), folder) for name, arguments in JOBS.items()]


if __name__ == "__main__":
    for path in export_all(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent):
        print(path)
