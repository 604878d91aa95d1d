"""The recipe writes every argument that matters, refuses what no bundle has, and keeps sites by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sitelora.federation.job_folder import JobFolder
from sitelora.flare.recipe import FederationRecipe, export_job

Jobs = Callable[..., JobFolder]


def test_no_argument_is_lost_on_the_way_into_the_folder(tmp_path: Path) -> None:
    recipe = FederationRecipe(
        bundle="iat_segmentation",
        dataset="prostate",
        sites=["runmc", "bidmc"],
        rounds=11,
        name="trial",
        min_sites=1,
        overrides={"method#rank": 4},
        wire_dtype="float32",
        clip_norm=2.0,
        noise_std=0.5,
        wire_up="int4",
        wire_down="int8",
        uid="run-1",
        resume=True,
        begin_timeout=11,
        train_timeout=22,
        evaluate_timeout=33,
        evaluate=False,
        tracking="mlflow",
    )
    found = JobFolder.read(export_job(recipe, tmp_path))
    assert found.job == recipe.job_says
    assert json.loads((found.path / "app" / "config" / "sitelora.json").read_text()) == {
        "format": 1,
        "federation": "trial",
        "bundle": "iat_segmentation",
        "dataset": "prostate",
        "sites": ["runmc", "bidmc"],
        "rounds": 11,
        "min_sites": 1,
        "uid": "run-1",
        "resume": True,
        "evaluate": False,
        "begin_timeout": 11,
        "train_timeout": 22,
        "evaluate_timeout": 33,
        "tracking": "mlflow",
        "wire": {"dtype": "float32", "clip_norm": 2.0, "noise_std": 0.5, "up": "int4", "down": "int8"},
        "settings": {"method#rank": 4},
    }


def test_nvflares_own_configuration_says_nothing_but_two_classes(job_of: Jobs, tmp_path: Path) -> None:
    config = job_of(tmp_path).path / "app" / "config"
    server, client = (json.loads((config / f"config_fed_{end}.json").read_text()) for end in ("server", "client"))
    (workflow,), (executor,) = server["workflows"], client["executors"]
    assert (workflow["path"], workflow["args"]) == ("sitelora.flare.controller.FederationController", {})
    assert (executor["executor"]["path"], executor["executor"]["args"]) == ("sitelora.flare.executor.SiteExecutor", {})
    for one in (server, client):
        assert one["components"] == one["task_data_filters"] == one["task_result_filters"] == []


def test_an_export_replaces_an_older_one_and_nothing_else(job_of: Jobs, tmp_path: Path) -> None:
    job = job_of(tmp_path)
    (tmp_path / "beside.txt").write_text("mine")
    again = job_of(tmp_path, rounds=9)
    assert again.path == job.path
    assert again.rounds == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside.txt", job.path.name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bundle": "no_such"}, "no_such"),
        ({"overrides": {"lerning_rate": 1}}, "lerning_rate"),
        ({"sites": ["../site"]}, "names a folder"),
        ({"sites": ["site-1", "server"]}, "this name is taken"),
        ({"sites": ["site-1", "site-1"]}, "every name once"),
        ({"name": "a b"}, "names a folder|name"),
        ({"rounds": 0}, "rounds is 0"),
        ({"rounds": 2.5}, "rounds is 2.5"),
        ({"min_sites": 2}, "min_sites is 2"),
        ({"resume": True}, "without a uid"),
        ({"train_timeout": 0}, "train_timeout is 0"),
        ({"noise_std": 0.1}, "clip_norm"),
    ],
)
def test_mistakes_are_found_when_the_recipe_is_made(change: dict[str, object], said: str) -> None:
    values = {"bundle": "iat_segmentation", "dataset": "prostate", "sites": ["site-1"], "rounds": 1, **change}
    with pytest.raises((ValueError, LookupError), match=said):
        FederationRecipe(**values)
