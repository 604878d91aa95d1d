"""A loader's processes that hand nothing over end the wait, in every configuration that has such processes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from monai.data import DataLoader

from sitelora.data import workers


class Stuck:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> int:
        time.sleep(3600)
        return place


def test_a_process_that_hands_nothing_over_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 1)
    with pytest.raises(RuntimeError, match="timed out after 1 seconds"):
        next(iter(DataLoader(Stuck(), num_workers=1, timeout=workers.patience(1))))


def test_without_processes_nobody_waits() -> None:
    assert workers.patience(0) == 0
    assert workers.patience(2) == workers.PATIENCE > 0


def loaders(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for one in value for found in loaders(one)]
    if not isinstance(value, dict):
        return []
    found = [value] if value.get("_target_") == "DataLoader" else []
    return found + [one for below in value.values() for one in loaders(below)]


@pytest.mark.parametrize("file", ["train.json", "multi_gpu_train.json"])
def test_every_loader_with_processes_has_an_end(repository: Path, file: str) -> None:
    bundles = sorted((repository / "bundles").glob(f"*/configs/{file}"))
    assert bundles
    for bundle in bundles:
        found = [one for one in loaders(json.loads(bundle.read_text())) if one["num_workers"] == "@num_workers"]
        assert found, bundle
        assert all(one["timeout"] == "$patience(@num_workers)" for one in found), bundle
