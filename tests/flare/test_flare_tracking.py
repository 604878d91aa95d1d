"""Rounds in TensorBoard and MLflow: numbers that the server has anyway, by NVFlare's receivers, only where asked."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from nvflare.apis.fl_context import FLContext

from sitelora.federation.coordinator import FederationError
from sitelora.federation.job import Job
from sitelora.flare.tracking import MLFLOW, TENSORBOARD, Tracking
from sitelora.run_result import Round, SiteRound
from sitelora.value_kinds import SettingsError

JOB = Job(bundle="iat_segmentation", dataset="prostate", federation="f", sites=("site-1", "site-2"), rounds=3)
DONE = Round(
    number=1,
    sites={
        "site-1": SiteRound(status="ok", metrics={"loss": 0.5, "score_personal": 0.75}),
        "site-2": SiteRound(status="missing", reason="no answer within 60 s"),
    },
)


def test_a_job_says_it_and_leaves_it_out_where_nobody_chose() -> None:
    from dataclasses import replace

    assert "tracking" not in JOB.to_json()
    asked = replace(JOB, tracking=TENSORBOARD)
    assert asked.to_json()["tracking"] == "tensorboard"
    with pytest.raises(SettingsError, match=r"tracking .*wandb"):
        replace(JOB, tracking="wandb")


@pytest.mark.parametrize("kind", [TENSORBOARD, MLFLOW])
def test_without_its_package_nothing_is_trained_and_it_is_said_what_to_install(
    context: Callable[..., FLContext], kind: str
) -> None:
    if find_spec(kind) is not None:
        pytest.skip(f"{kind} is installed here")
    with pytest.raises(FederationError, match=f"nothing was trained: tracking is '{kind}'.* pip install {kind}"):
        Tracking(kind, context("server"))


def test_nobody_hears_of_a_job_that_asks_for_none(context: Callable[..., FLContext]) -> None:
    fl_ctx = context("server")
    tracking = Tracking("none", fl_ctx)
    tracking.note(DONE, fl_ctx)
    tracking.end(fl_ctx)


def test_tensorboard_gets_every_number_of_a_site_by_round(context: Callable[..., FLContext], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fl_ctx = context("server")
    tracking = Tracking(TENSORBOARD, fl_ctx)
    tracking.note(DONE, fl_ctx)
    tracking.end(fl_ctx)
    (folder,) = tmp_path.rglob("tb_events")
    assert [path.name for path in folder.iterdir()] == ["site-1"]
    found = EventAccumulator(str(folder / "site-1"))
    found.Reload()
    assert {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]} == {
        "loss": [(2, 0.5)],
        "score_personal": [(2, 0.75)],
    }
