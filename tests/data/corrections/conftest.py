"""A site folder, and an annotator's desk beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from annotators_desk import Desk
from sitelora.data.phantom.make import PhantomSize, make_phantom

SIZE = PhantomSize(training=3, validation=1, test=2, matrix=24, slices=4)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_phantom(root, sites=["site-1", "site-2"], size=SIZE)
    return root / "prostate"


@pytest.fixture
def desk(drawn: Path, tmp_path: Path) -> Desk:
    """Return an empty studies folder beside a site folder."""
    site = shutil.copytree(drawn / "site-1", tmp_path / "data" / "prostate" / "site-1")
    (tmp_path / "studies" / "labels" / "final").mkdir(parents=True)
    return Desk(studies=tmp_path / "studies", site=site)
