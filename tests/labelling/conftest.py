"""Exported models of two sites, one of them in two versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sitelora.model_export.export import Exported, export_model
from sitelora.model_export.model_of_run import ModelOfRun
from small_exports import exports, runs, small_run

__all__ = ["exports", "runs", "small_run"]

OLDER = "iat_prostate_site-1_20261126_segmentation"
NEWER = "iat_prostate_site-1_20261203_segmentation"
SERVED = ("iat_prostate_site-1_segmentation", "iat_prostate_site-2_segmentation")


@pytest.fixture(scope="session")
def two_sites(exports: tuple[Path, list[Exported]], runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of bundles of both sites; nothing may be changed in it."""
    out = shutil.copytree(exports[0], tmp_path_factory.mktemp("labelling") / "exported")
    export_model(ModelOfRun.find(runs[0], "site-2"), out)
    return out


@pytest.fixture
def exported(two_sites: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return shutil.copytree(two_sites, tmp_path / "exported")
