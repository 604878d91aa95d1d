"""Every kind of hostile answer: none reaches the aggregate, none ends the run, each is named (benchmarks/attacks)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "attacks"))
from hostile_updates import attacked, every_kind


def _kinds() -> Iterator[Any]:
    """Yield every kind; a third of them, of all stages, at every commit, and the others by `make soak`."""
    for number, (stage, kind) in enumerate(every_kind()):
        name = f"{stage}-{kind}".replace(" ", "_")
        yield pytest.param(stage, kind, id=name, marks=[pytest.mark.soak] if number % 3 else [])


@pytest.mark.parametrize(("stage", "kind"), _kinds())
def test_it_reaches_nothing_ends_nothing_and_is_named(stage: str, kind: str, tmp_path: Path) -> None:
    found = attacked(stage, kind, tmp_path)
    assert not found.ended, found.named
    assert not found.reached
    assert found.named
    assert found.named.isprintable()


def test_the_suite_is_as_large_as_it_says() -> None:
    kinds = every_kind()
    assert len(kinds) == len(set(kinds))
    assert len(kinds) >= 160
