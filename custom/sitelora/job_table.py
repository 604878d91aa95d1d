"""The jobs that this package ships: `sitelora job NAME` writes one anywhere, `jobs/` holds all of them.

Settings are data: what a method needs beside the budget that every method gets, and why.
"""

from __future__ import annotations

from typing import Any

from sitelora.comparison.setup import BUNDLE, find_setup
from sitelora.data.public import ixi, kits19
from sitelora.federation.job import Job
from sitelora.value_kinds import did_you_mean


def _as_compared(dataset: str, **values: Any) -> dict[str, Any]:
    """Return a job of ``iat_segmentation`` with the budget that `sitelora compare` gives every method."""
    setup = find_setup(dataset)
    plan = {"epochs": setup.epochs, "schedule_rounds": setup.rounds}
    return {
        "bundle": BUNDLE,
        "dataset": setup.dataset,
        "sites": list(setup.sites),
        "rounds": setup.rounds,
        "settings": {**setup.overrides, **plan, **values},
    }


JOBS: dict[str, dict[str, Any]] = {
    # Six sites of prostate volumes; without data of its own the simulator draws the phantom. 96 pixels cost half of 128
    # and are about as good on it, so that the demo is a matter of minutes. Two volumes a step: with one, the last few
    # steps of a round decide what a site is served; and twice the comparison's epochs: after 80 steps a site was still
    # climbing, and its seeds ended up to 0.025 apart. The rate is `benchmarks/recipes.py`'s.
    "iat_prostate": {
        **_as_compared("prostate", image_size=96, epochs=8, batch_size=2, learning_rate=0.002),
        "min_sites": 4,
    },
    # Chest X-rays of two real hospitals: `sitelora prepare lungs` makes the site folders.
    # Rate and batch as `benchmarks/recipes.py` chose them, by validation: at 0.008 rounding decides who survives.
    "iat_lungs": _as_compared("lungs", learning_rate=0.004, batch_size=4),
    # Blood cells of two real laboratories, cytoplasm and nucleus: `sitelora prepare cells` makes the site folders.
    # The rate as `benchmarks/recipes.py` chose it, with the bundle's own scale: at twice the rate a seed's model falls.
    "iat_cells": _as_compared("cells", learning_rate=0.002),
}
for dataset in ("prostate", "lungs"):
    alike = JOBS[f"iat_{dataset}"]
    # FLAP-SAM's schedule is for 200 rounds. A short job needs a larger rate, less warm-up and a plan of its own: twice
    # its rounds, as the paper's code stops half-way through its plan. By then power 7 has left a hundredth of the rate,
    # and a short job has few steps: on the phantom, where a step is two volumes, the plan is four times the rounds (our
    # choice; the rate is `benchmarks/recipes.py`'s). Epochs and batch are those of IAT's jobs.
    rate, warmup, planned = (0.0015, 16, 4) if dataset == "prostate" else (0.004, 10, 2)
    own = {"learning_rate": rate, "schedule_rounds": planned * alike["rounds"], "warmup_steps": warmup}
    JOBS[f"flap_sam_{dataset}"] = {
        **alike,
        "bundle": "flap_sam_segmentation",
        "settings": {**alike["settings"], **own},
    }
    # The bundle has iat_segmentation's settings, so the job has those of IAT's job: one is compared with the other. The
    # rate on the phantom is the one that `benchmarks/recipes.py` chose; on lungs it is not chosen yet.
    JOBS[f"fedsca_{dataset}"] = {
        **alike,
        "bundle": "fedsca_segmentation",
        "settings": {**alike["settings"], "learning_rate": 0.002 if dataset == "prostate" else 0.004},
    }
for dataset, sites, classes in (("kits19", kits19.SITES, len(kits19.LABELS) - 1), ("ixi", ixi.SITES, 1)):
    # The paper's run: 100 rounds of one epoch out of a plan for 200, the bundle's own rate and warm-up. A step is eight
    # stacks of one volume: the code's batch of 24 is for three devices. The embedded base is adapted unless another is
    # named (`arch`, `base`, `image_size`).
    JOBS[f"flap_sam_{dataset}"] = {
        "bundle": "flap_sam_segmentation",
        "dataset": dataset,
        "sites": list(sites),
        "rounds": 100,
        "settings": {"classes": classes, "crops_per_volume": 8},
    }

# Diagnosis. Rates, rounds and epochs are our choice; none is chosen by a test case.
JOBS["med_duallora_cine"] = {
    # Three vendors of short-axis cine MRI; without data of its own the simulator draws the phantom. Of five settings
    # `benchmarks/diagnosis.py --choose` found this one to be the best by the served models' validation.
    "bundle": "med_duallora_classification",
    "dataset": "cine",
    "sites": ["vendor-a", "vendor-b", "vendor-c"],
    "rounds": 8,
    "settings": {"epochs": 8, "schedule_rounds": 8, "learning_rate": 0.004},
}
for name, dataset, hospitals, classes in (
    # Tuberculosis in the chest X-rays of two hospitals, and the blood cells of two laboratories by their type.
    ("fedopal_tuberculosis", "tuberculosis", ["montgomery", "shenzhen"], 2),
    ("fedopal_cells", "cell_types", ["jiangxi_tecom", "cellavision"], 5),
):
    JOBS[name] = {
        "bundle": "fedopal_classification",
        "dataset": dataset,
        "sites": hospitals,
        "rounds": 8,
        "settings": {"classes": classes, "epochs": 1, "schedule_rounds": 8},
    }


def find_job(name: str) -> Job:
    """Return a shipped job.

    Raises:
        ValueError: there is none of this name; lists those that there are.
    """
    if name not in JOBS:
        raise ValueError(f"no job is called {name!r}{did_you_mean(name, JOBS)}; there are: {', '.join(sorted(JOBS))}")
    said = JOBS[name]
    return Job(**{"federation": name, "min_sites": len(said["sites"]), **said, "sites": tuple(said["sites"])})
