"""The hostile jobs of benchmarks/attacks, which these tests and the committed table share."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ATTACKS = Path(__file__).resolve().parents[2] / "benchmarks" / "attacks"
sys.path.insert(0, str(ATTACKS))


@pytest.fixture(scope="session")
def attacks() -> ModuleType:
    return importlib.import_module("hostile_jobs")
