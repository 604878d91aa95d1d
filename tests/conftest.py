"""What every test stands on: a home of its own (never the user's), one torch thread, real data."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sitelora.federation.job_folder import JobFolder

pytest_plugins = ["folder_times"]

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = REPOSITORY.parent / "shared" / "data"

# Everything that makes a library write beside a test: NVFlare's ~/.nvflare, SiteLoRA's state, caches.
_TO_FOLDER = {
    "HOME": "",
    "SITELORA_HOME": "sitelora",
    "SITELORA_DATA": "data",
    "NVFLARE_POC_WORKSPACE": "poc",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "MPLCONFIGDIR": "matplotlib",
    "TORCH_HOME": "torch",
}
_UNSET = ("NVFLARE_STARTUP_KIT_DIR", "NVFLARE_HOME")
_saved: dict[str, str | None] = {}
_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Redirect before any test module is imported: some libraries read the home when they are imported."""
    home = Path(tempfile.mkdtemp(prefix="sitelora-tests-"))
    config.stash[_home] = home
    for name, folder in _TO_FOLDER.items():
        _saved[name] = os.environ.get(name)
        os.environ[name] = str(home / folder)
    for name in _UNSET:
        _saved[name] = os.environ.pop(name, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    for name, value in _saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    shutil.rmtree(config.stash[_home], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what reads real data where there is none; ``-ra`` then prints the reason."""
    if REAL_DATA.is_dir():
        return
    reason = "REAL DATA NOT TESTED: there is no folder shared/data beside the repository"
    for item in items:
        if item.get_closest_marker("real_data"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public real data; use together with ``@pytest.mark.real_data``."""
    return REAL_DATA


@pytest.fixture(scope="session")
def test_home(pytestconfig: pytest.Config) -> Path:
    """The home that stands in for the user's for the whole session."""
    return pytestconfig.stash[_home]


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Bit-for-bit equality is promised at equal thread counts only, and bundles set the count globally."""
    import torch

    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def bf16_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what bf16 computes: torch imitates it, if slowly, on a processor without instructions for it."""
    monkeypatch.setattr("sitelora.networks.precision.has_bf16", lambda device: True)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root of three tiny phantom sites."""
    from sitelora.data.phantom.make import TINY, make_phantom  # after the redirection above

    root = tmp_path_factory.mktemp("data")
    make_phantom(root, size=TINY, sites=["site-1", "site-2", "site-3"])
    return root


@pytest.fixture
def job_of() -> Callable[..., JobFolder]:
    """Export a tiny job of two sites and two rounds."""
    from sitelora.federation.job_folder import JobFolder
    from sitelora.flare.recipe import FederationRecipe, export_job
    from small_network import SMALL

    def make(folder: Path, **arguments: Any) -> JobFolder:
        values: dict[str, Any] = {
            "bundle": "iat_segmentation",
            "dataset": "prostate",
            "sites": ["site-1", "site-2"],
            "rounds": 2,
            "overrides": {**SMALL, "slices": 3},
            **arguments,
        }
        return JobFolder.read(export_job(FederationRecipe(**values), folder))

    return make
