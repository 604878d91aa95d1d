"""What a process may take: the machine's memory, or less where its group has a limit, whichever group that is."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from sitelora.memory import memory_free, memory_in_all

GIB = 1024**3


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def group(place: Path, *, most: str, used: int = 0, files: int = 0) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.max").write_text(f"{most}\n")
    (place / "memory.current").write_text(f"{used}\n")
    (place / "memory.stat").write_text(f"anon {used - files}\ninactive_file {files}\n")


def own(groups: Path, path: str) -> Path:
    file = groups.parent / "self"
    file.write_text(f"12:cpu:/elsewhere\n0::{path}\n")
    return file


def test_without_a_limit_it_is_the_machines(groups: Path) -> None:
    nothing = groups.parent / "none"
    for place in (nothing, groups):
        assert memory_in_all(groups=place, own=nothing) == psutil.virtual_memory().total
    group(groups, most="max")
    assert memory_in_all(groups=groups, own=own(groups, "/")) == psutil.virtual_memory().total
    assert 0 < memory_free(groups=groups, own=own(groups, "/")) <= psutil.virtual_memory().total


def test_a_container_has_its_own_limit_less_what_it_cannot_give_back(groups: Path) -> None:
    group(groups, most=str(2 * GIB), used=GIB, files=GIB // 2)
    told = own(groups, "/")
    assert memory_in_all(groups=groups, own=told) == 2 * GIB
    assert memory_free(groups=groups, own=told) == 2 * GIB - GIB // 2


def test_the_least_of_the_groups_counts(groups: Path) -> None:
    group(groups / "system.slice", most=str(GIB), used=GIB // 4)
    group(groups / "system.slice" / "site.service", most="max")
    told = own(groups, "/system.slice/site.service")
    assert memory_in_all(groups=groups, own=told) == GIB
    assert memory_free(groups=groups, own=told) == GIB - GIB // 4
    group(groups / "system.slice" / "site.service", most=str(GIB // 2), used=GIB)
    assert memory_in_all(groups=groups, own=told) == GIB // 2
    assert memory_free(groups=groups, own=told) == 0
