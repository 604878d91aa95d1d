"""What a site answers when it cannot: a code that tells nothing of its files, also where its disk is full."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from sitelora.federation import files
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.job import Job
from sitelora.federation.task_names import BEGIN
from sitelora.federation.ticket import Ticket
from sitelora.flare.executor import SiteExecutor
from sitelora.flare.protocol import task_model

JOB = Job(federation="f", bundle="iat_segmentation", dataset="prostate", sites=("site-1", "site-2"), rounds=1)


@pytest.fixture
def begin(
    context: Callable[..., FLContext], overrides: dict[str, Any], tiny_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, Any]]:  # fmt: skip
    """What a site answers to the first task of a job with these values."""
    monkeypatch.setenv("SITELORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SITELORA_DATA", str(tiny_data))

    def answer(**values: Any) -> dict[str, Any]:
        job = replace(JOB, settings={**overrides, **values})
        ticket = Ticket(federation="f", uid="run-1", round_number=BEGIN_ROUND)
        task: Shareable = FLModelUtils.to_shareable(task_model(ticket, {}))
        meta: dict[str, Any] = FLModelUtils.from_shareable(
            SiteExecutor().execute(BEGIN, task, context(job=job), Signal())
        ).meta
        return meta

    return answer


def test_a_job_does_not_learn_from_its_base_which_files_a_site_has(
    begin: Callable[..., dict[str, Any]], tiny_data: Path, tmp_path: Path
) -> None:
    patient = next((tiny_data / "prostate" / "site-1" / "images").iterdir())
    (tmp_path / "Mueller_Hans.txt").write_text("x")
    (tmp_path / "empty.safetensors").touch()
    asked = [patient, tmp_path / "Mueller_Hans.txt", tmp_path / "empty.safetensors", tmp_path / "nobody.pth", tmp_path]
    answers = [begin(base=str(path)) for path in asked]
    assert answers[0]["error"] == "base_missing"
    assert all(answer == answers[0] for answer in answers)


def test_a_files_own_name_is_not_reported(begin: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    from sitelora.bundle import EMBEDDED
    from sitelora.networks.tensor_file import embedded_file

    (tmp_path / "Mueller_Hans.safetensors").write_bytes(embedded_file("sam_tiny").read_bytes())
    told = {base: begin(base=base)["report"] for base in (str(tmp_path / "Mueller_Hans.safetensors"), EMBEDDED, None)}
    assert [report["base"] for report in told.values()] == [
        "sam_tiny (a checkpoint of the site's)",
        "sam_tiny (embedded)",
        "sam_tiny (random values)",
    ]
    assert "Mueller" not in json.dumps([*told.values()])


def test_the_code_of_a_full_disk_leaves_though_nothing_can_be_written(
    begin: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, line: str) -> None:
        raise files.DiskError(28, f"{path}: No space left on device")

    monkeypatch.setattr("sitelora.federation.events.append_line", full)
    assert begin()["error"] == "disk_full"
