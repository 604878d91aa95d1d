"""A small federation that is over: two runs of IAT, so that there are two versions, and its exported bundles.

The conftest of a folder takes the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitelora.federation.in_process import run_in_process
from sitelora.model_export.export import Exported, export_model
from sitelora.model_export.model_of_run import ModelOfRun

UIDS = ("20261126-101010-aa", "20261203-101010-bb")
SMALL = {"image_size": 32, "slices": 3, "learning_rate": 0.002}


Run = Callable[..., Path]


@pytest.fixture(scope="session")
def small_run(tiny_data: Path) -> Run:
    """Run a federation of one round and return its folder."""

    def run(home: Path, uid: str, *, sites: tuple[str, ...] = ("site-1", "site-2"), **how: Any) -> Path:
        federation = how.get("federation", "iat_prostate")
        run_in_process(
            bundle=how.get("bundle", "iat_segmentation"),
            dataset="prostate",
            federation=federation,
            sites=sites,
            rounds=1,
            overrides={**SMALL, **how.get("values", {})},
            data=tiny_data,
            home_folder=home,
            uid=uid,
        )
        return home / federation / uid

    return run


@pytest.fixture(scope="session")
def runs(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("home")
    return [small_run(home, uid, values={"seed": seed}) for seed, uid in enumerate(UIDS)]


@pytest.fixture(scope="session")
def exports(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Exported]]:
    """The folder of exported bundles, and what the two exports of site-1 said."""
    out = tmp_path_factory.mktemp("exported")
    return out, [export_model(ModelOfRun.find(run, "site-1"), out) for run in runs]
