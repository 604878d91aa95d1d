"""A task is a value that is found by looking, that every bundle declares, and that the rest of the house asks."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sitelora.bundle import bundle_names
from sitelora.data.reading import Pixels
from sitelora.settings import read_settings
from sitelora.task_registry import find_task, task_names
from sitelora.tasks.segmentation import TASK, score_case
from sitelora.value_kinds import SettingsError

LABELS = {0: "background", 1: "kidney", 2: "tumour"}


@pytest.mark.parametrize("name", task_names())
def test_a_task_is_a_value_named_like_its_file(name: str) -> None:
    task = find_task(name)
    assert task.name == name
    assert pickle.loads(pickle.dumps(task)) == copy.copy(task) == task
    assert task.truth in ("label", "class")
    names = [metric.name for metric in (*task.metrics, *task.set_metrics, *task.values)]
    assert len(set(names)) == len(names)
    assert all(metric.help.endswith(".") for metric in (*task.metrics, *task.set_metrics, *task.values)), (
        "the glossary's sentences"
    )
    assert task.scoring["primary"] == names[0]


def test_tools_are_no_tasks_and_what_is_no_task_is_refused() -> None:
    assert "masks" not in task_names()
    with pytest.raises(SettingsError, match=r"bundle b: no task is called 'segmentaton' \(did you mean 'segmentation'"):
        find_task("segmentaton", where="bundle b: ")
    with pytest.raises(SettingsError, match=r"no task is called None; there are: .*segmentation"):
        find_task(None)


@pytest.mark.parametrize("bundle", bundle_names())
def test_every_bundle_declares_its_task_and_no_job_can_set_another(bundle: str) -> None:
    assert read_settings(bundle).task.name == bundle.rpartition("_")[2]
    with pytest.raises(SettingsError, match="nothing is called task"):
        read_settings(bundle, {"task": "segmentation"})


@pytest.mark.parametrize("seed", range(3))
def test_the_quick_score_between_rounds_is_the_primary_one_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, values = (rng.integers(0, 3, (12, 10, 4)).astype(np.uint8) for _ in range(2))
    whole, quick = (scored(prediction, values, primary_only=only) for only in (False, True))
    assert quick.keys() == whole.keys() == {"kidney", "tumour"}
    for label, metrics in quick.items():
        assert metrics == {TASK.primary.name: pytest.approx(whole[label][TASK.primary.name], abs=1e-6)}
    nothing = np.zeros_like(values)
    assert scored(nothing, nothing, primary_only=True)["kidney"] == {TASK.primary.name: 1.0}
    assert scored(nothing, values, primary_only=True)["kidney"] == {TASK.primary.name: 0.0}


def test_what_is_kept_of_a_volume_is_drawn_from_what_was_kept(tmp_path: Path) -> None:
    truth = volume(np.tile(np.eye(16, dtype=np.uint8)[..., None], 3))
    TASK.keep(truth.values, truth, tmp_path, "case")
    assert [path.name for path in tmp_path.iterdir()] == ["case.nii.gz"]
    case: dict[str, Any] = {"image": tmp_path / "case.nii.gz", "label": tmp_path / "case.nii.gz"}
    assert np.array_equal(TASK.read_truth(case, LABELS).values, truth.values)
    TASK.draw(case, tmp_path, "case", tmp_path / "x.png", labels=LABELS, title="case")
    assert (tmp_path / "x.png").stat().st_size > 1000


def scored(prediction: np.ndarray, values: np.ndarray, *, primary_only: bool) -> dict[str, dict[str, float | None]]:
    return score_case(prediction, volume(values), LABELS, primary_only=primary_only)


def volume(values: np.ndarray) -> Pixels:
    return Pixels(values=values, affine=np.diag([1.0, 1.0, 3.0, 1.0]))
