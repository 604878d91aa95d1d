"""A comparison of a tiny phantom: two sites, three methods, two learning rates, a second each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sitelora.comparison.run import Job, run_job
from sitelora.comparison.setup import Setup
from sitelora.data.phantom.make import TINY, make_phantom

SITES = ("site-1", "site-2")
FAST = {"image_size": 32, "base": None, "slices": 3, "precision": "fp32", "method#rank": 2}


@pytest.fixture(scope="session")
def setup() -> Setup:
    return Setup(
        title="A tiny phantom",
        cite="drawn",
        dataset="prostate",
        sites=SITES,
        rounds=2,
        epochs=1,
        overrides=FAST,
        goal_score=0.99,
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    make_phantom(root, size=TINY, sites=SITES)
    return root


@pytest.fixture(scope="session")
def job_of(setup: Setup, tiny: Path) -> Callable[..., Job]:
    """Return a function from an output folder, method, rate and seed to a run."""

    def make(out: Path, method: str, rate: float = 0.002, seed: int = 0) -> Job:
        return Job(
            name="tiny",
            method=method,
            rate=rate,
            seed=seed,
            setup=setup,
            data=tiny,
            out=out,
            command="sitelora compare --dataset tiny",
            at_a_time=1,
        )

    return make


@pytest.fixture(scope="session")
def compared(job_of: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of finished runs: local at two rates, FedIT and centralised at one."""
    out = tmp_path_factory.mktemp("compared")
    for method, rate in (("local", 0.002), ("local", 0.02), ("fedavg_lora", 0.002), ("centralised", 0.002)):
        run_job(job_of(out, method, rate))
    return out
