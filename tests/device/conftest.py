"""The device that these tests run on: the stand-in by default, with ``--device cuda`` a real one (``make gpu``).

The stand-in is registered for a whole process and for good. So everything on a device runs in a child process of this
folder's own, and no other test can be disturbed, whatever the worker.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import on_device
import standin
from fixed_input import write_fixed_input

Child = Callable[..., Any]
"""Calls a function of ``on_device`` in the child process."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", metavar="NAME", help="run tests/device there, for example cuda; without it a stand-in")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "standin: holds of the stand-in device alone")
    config.addinivalue_line("markers", "cuda: needs a real device")


def pytest_sessionstart(session: pytest.Session) -> None:
    device = session.config.getoption("--device", None)
    if device and torch.device(device).type == "cuda" and not torch.cuda.is_available():
        pytest.exit(f"NOT TESTED: torch {torch.__version__} found no CUDA device here, so nothing ran", returncode=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    device = config.getoption("--device", None)
    for item in items:
        if item.get_closest_marker("standin") and device:
            item.add_marker(pytest.mark.skip(reason=f"about the stand-in device, not {device}"))
        if item.get_closest_marker("cuda") and not device:
            item.add_marker(pytest.mark.skip(reason="NOT TESTED: bf16 on a real device; `make gpu` does where one is"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device as a site would name it."""
    return str(request.config.getoption("--device", None) or standin.NAME)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fixed_input(tmp_path_factory.mktemp("fixed_input"))


@pytest.fixture(scope="session")
def child(device: str) -> Iterator[Child]:
    """Call functions in a process that knows the device; their errors come back as they are."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=on_device.start, initargs=(device,)) as pool:
        yield lambda function, *args, **kwargs: pool.submit(function, *args, **kwargs).result()
