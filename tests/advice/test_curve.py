"""A learning curve of a site alone: sizes grow, patients are whole, test cases are never looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sitelora.advice.curve import Curve, Point, divided, learning_curve, sizes
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder, find_site_folder
from sitelora.data.site_writer import write_selection
from sitelora.tasks.segmentation import TASK


def folder(*, training: int = 8, validation: int = 2, test: int = 4, each: int = 2) -> SiteFolder:
    splits: dict[str, Any] = {
        split: tuple(
            {"image": f"images/{split}{p}_{c}.png", "label": f"labels/{split}{p}_{c}.png", "patient": f"{split}{p}"}
            for p in range(count)
            for c in range(each)
        )
        for split, count in zip(SPLITS, (training, validation, test), strict=True)
    }
    return SiteFolder(path=Path("x"), name="a", hospital="a", labels={0: "background"}, splits=splits)


def patients(entries: list[Any]) -> set[str]:
    return {entry["patient"] for entry in entries}


def test_validation_patients_are_held_out_first_and_test_patients_are_neither() -> None:
    pool, held = divided(folder(), 0)
    assert len(patients(held)) == 3  # a third of ten
    assert {"validation0", "validation1"} < patients(held)
    assert not patients(pool) & patients(held)
    assert len(pool) + len(held) == 20
    assert not any(name.startswith("test") for name in patients(pool) | patients(held))
    assert divided(folder(), 0) == (pool, held)
    assert divided(folder(), 1)[0] != pool
    with pytest.raises(SiteDataError, match="found 2 patients with training or validation cases, expected 3"):
        divided(folder(training=1, validation=1), 0)


@pytest.mark.parametrize(("cases", "expected"), [(16, [4, 8, 16]), (3, [1, 2, 3]), (2, [1, 2]), (1, [1])])
def test_sizes_grow_by_two_and_each_stands_once(cases: int, expected: list[int]) -> None:
    assert sizes(cases) == expected


def test_doubling_is_the_slope_over_the_logarithm() -> None:
    def curve(*points: tuple[int, float]) -> Curve:
        listed = [Point(cases=cases, score=score) for cases, score in points]
        return Curve(points=listed, base=0.1, held_out=3, primary=TASK.primary, steps=1, seconds=0.0)

    assert curve((2, 0.7), (4, 0.75), (8, 0.8)).doubling == pytest.approx(0.05)
    assert curve((2, 0.8), (4, 0.7)).doubling == pytest.approx(-0.1)
    assert curve((2, 0.8)).doubling == 0.0


def test_a_real_site_has_a_curve(tiny_data: Path, tmp_path: Path) -> None:
    source = SiteFolder.read(find_site_folder("prostate", "site-2", tiny_data))
    entries = [entry for split in SPLITS for entry in source.splits[split]]
    training = tuple({**entry, "patient": f"p{number}"} for number, entry in enumerate(entries[:-1]))
    splits = {"training": training, "test": (entries[-1],)}
    target = replace(source, path=tmp_path / "prostate" / "site-2", splits=splits)
    write_selection(source, target, lambda one, other: other.write_bytes(one.read_bytes()))
    told: list[str] = []
    fast = {"image_size": 32, "base": None, "slices": 3, "precision": "fp32"}
    curve = learning_curve("prostate", "site-2", tmp_path, steps=2, overrides=fast, tell=told.append)
    assert [point.cases for point in curve.points] == [1, 2]
    assert curve.held_out == 1
    assert all(0 <= point.score <= 1 for point in curve.points)
    assert len(told) == 2
    assert told[0].startswith("1 case: Dice 0.")
    assert told[0].endswith("on 1 case held out")
