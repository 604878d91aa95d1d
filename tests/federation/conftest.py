"""A tiny phantom, and sites and federations over it that take about a second each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.federation.in_process import run_in_process
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteSettings
from sitelora.run_result import RunResult
from sitelora.sharing.bounds import ExitBounds
from sitelora.sharing.wire import WireFormat

BUNDLE, FEDERATION, SITES = "iat_segmentation", "tests", ("site-1", "site-2", "site-3")
FAST: dict[str, Any] = {
    "image_size": 32,
    "base": None,
    "slices": 3,
    "crops_per_volume": 1,
    "batch_size": 1,
    "epochs": 1,
    "learning_rate": 0.002,
    "precision": "fp32",
    "method#rank": 2,
}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    make_phantom(root, size=TINY, sites=SITES)
    return root


def give_secret(home: Path) -> None:
    """Give all homes one secret, so that what leaves under it can be compared."""
    if not (home / "secret").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "secret").write_bytes(b"s" * 32)


@pytest.fixture(scope="session")
def make_site(phantom: Path) -> Callable[..., Site]:
    """Return a function from a home and a name to a site; further arguments are bundle overrides."""

    def make(
        home: Path,
        name: str = "site-1",
        *,
        uid: str = "u",
        overrides: dict[str, Any] | None = None,
        wire: WireFormat | None = None,
        rounds: int | None = None,
        bounds: ExitBounds | None = None,
    ) -> Site:
        give_secret(home)
        settings = SiteSettings(
            site=name,
            federation=FEDERATION,
            uid=uid,
            bundle=BUNDLE,
            data=phantom / "prostate" / name,
            dataset="prostate",
            home=home,
            overrides={**FAST, **(overrides or {})},
            wire=wire or WireFormat(),
            rounds=rounds,
            bounds=bounds or ExitBounds(),
            sites=None if rounds is None else len(SITES),
        )
        return Site(settings)

    return make


@pytest.fixture(scope="session")
def federate(phantom: Path) -> Callable[..., RunResult]:
    """Return a function that runs a federation of two sites in a home and gives its result."""

    def run(
        home: Path, *, rounds: int, uid: str = "u", overrides: dict[str, Any] | None = None, **settings: Any
    ) -> RunResult:
        give_secret(home)
        return run_in_process(
            bundle=BUNDLE,
            dataset="prostate",
            rounds=rounds,
            federation=FEDERATION,
            overrides={**FAST, **(overrides or {})},
            home_folder=home,
            uid=uid,
            **{"data": phantom, "sites": SITES[:2], "evaluate": False, **settings},
        )

    return run
