"""What is compared on which dataset: everything that may be tuned is here, and is written beside every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sitelora.data.phantom.make import make_phantom
from sitelora.data.public.nuclei import LEFT_OUT_SITES, TRAINING_SITES
from sitelora.method_registry import REFERENCES

BUNDLE = "iat_segmentation"
"""Its settings hold for every method; only the method is replaced."""

CENTRALISED = "centralised"
ON_ALL_IMAGES: Mapping[str, str] = {CENTRALISED: "local", **{name: name for name in REFERENCES}}
"""Name in a comparison to the method that runs on ONE folder with all sites' images, which no federation has."""

PICTURES: Mapping[str, Any] = {"pictures": True, "batch_size": 8}
SIX = tuple(f"site-{number}" for number in range(1, 7))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One dataset's comparison.

    Args:
        title: of the page. cite: the images' source and terms.
        dataset: name of the sites' folders. sites: their names.
        prepare: the command that makes the site folders; empty where they are drawn.
        left_out: sites that never take part, on whose cases the global or unseen-site model is scored.
        rounds: of every run. epochs: of every round, each every picture once or ``steps_per_epoch`` steps.
        rates: learning rates to choose from for every method, on one seed and by the validation score.
        overrides: bundle values, the same for every method. arguments: of a method, by its name.
        goal_score: personal score that every site is to reach. goal_seconds: longest run. ``None`` for no goal.
    """

    title: str
    cite: str
    dataset: str
    sites: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    prepare: str = ""
    rounds: int
    epochs: int
    rates: tuple[float, ...] = (0.002, 0.004, 0.008)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    goal_score: float | None = None
    goal_seconds: float | None = None


LUNGS = Setup(
    title="Lungs in the chest X-rays of two hospitals",
    cite="Jaeger et al. 2014, NLM; free for research with citation",
    dataset="lungs",
    sites=("montgomery", "shenzhen"),
    prepare="sitelora prepare lungs --source ../shared/data/chest_xray --out data",
    rounds=5,
    epochs=1,
    overrides={**PICTURES, "steps_per_epoch": 75},
    goal_score=0.94,
    goal_seconds=480.0,
)
CELLS = Setup(
    title="White blood cells of two laboratories",
    cite="Zheng et al. 2018, Micron 107:55-71; GPL-3.0; no patient is named, so every picture counts as its own",
    dataset="cells",
    sites=("jiangxi_tecom", "cellavision"),
    prepare="sitelora prepare cells --source ../shared/data/white_blood_cells --out data",
    rounds=8,
    epochs=2,
    overrides={**PICTURES, "classes": 2},
    goal_seconds=480.0,
)


def _in_three_minutes(setup: Setup) -> Setup:
    """Return a setup with a budget so small that many methods can be compared on a laptop."""
    return replace(
        setup,
        title=f"{setup.title}: many methods, three minutes a run",
        rounds=4,
        epochs=1,
        overrides={**setup.overrides, "batch_size": 4, "steps_per_epoch": 40},
        goal_score=None,
        goal_seconds=180.0,
    )


SETUPS: Mapping[str, Setup] = {
    "lungs": LUNGS,
    "cells": CELLS,
    "lungs_short": _in_three_minutes(LUNGS),
    "cells_short": _in_three_minutes(CELLS),
    "nuclei": Setup(
        title="Nuclei in H&E tiles of seven tissue source sites, and of 25 never seen",
        cite="Kumar et al. 2017, MoNuSeg; CC BY-NC-SA 4.0",
        dataset="nuclei",
        sites=TRAINING_SITES,
        left_out=LEFT_OUT_SITES,
        prepare="sitelora prepare nuclei --source ../shared/data/monuseg --out data",
        rounds=8,
        epochs=2,
        overrides=PICTURES,
    ),
    "prostate": Setup(
        title="Prostate volumes of six sites",
        cite="Liu et al. 2020, SAML; research only",
        dataset="prostate",
        sites=SIX,
        prepare="sitelora prepare prostate --source six_site_prostate --out data",
        rounds=5,
        epochs=4,
    ),
    "prostate_phantom": Setup(
        title="Six sites of the drawn prostate phantom",
        cite="drawn by SiteLoRA; no patient, so differences show what the methods do and not what patients need",
        dataset="prostate",
        sites=SIX,
        rounds=3,
        epochs=4,
        overrides={"image_size": 64},
    ),
}


def find_setup(name: str) -> Setup:
    """Return the setup of a dataset.

    Raises:
        ValueError: there is none; names those that there are.
    """
    if name not in SETUPS:
        raise ValueError(f"no dataset is called {name!r} here; there are: {', '.join(sorted(SETUPS))}")
    return SETUPS[name]


def data_of(name: str, setup: Setup, root: Path) -> Path:
    """Return the root of the site folders, drawing the phantom's where they are missing."""
    if setup.prepare:
        return root
    drawn = root / "drawn" / name
    make_phantom(drawn, sites=setup.sites)
    return drawn
