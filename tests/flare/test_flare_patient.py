"""A patient's name in the name of a damaged file reaches nothing at the server, and the person at the site sees it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.federation.job_folder import JobFolder
from sitelora.simulator.simulate import simulate

PATIENT = "Mueller_Hans_1950"


def name_a_file(site: Path, split: str, damage: Callable[[bytes], bytes]) -> None:
    """Give the first image of a split a patient's name."""
    listed = json.loads((site / "dataset.json").read_text())
    image = site / listed[split][0]["image"]
    image.with_name(f"{PATIENT}.nii.gz").write_bytes(damage(image.read_bytes()))
    listed[split][0]["image"] = str(image.with_name(f"{PATIENT}.nii.gz").relative_to(site))
    listed[split][0]["patient"] = PATIENT
    (site / "dataset.json").write_text(json.dumps(listed))


@pytest.mark.soak
@pytest.mark.parametrize("damaged", [True, False], ids=["damaged", "sound"])
def test_nothing_at_the_server_holds_a_patients_name(
    damaged: bool, job_of: Callable[..., JobFolder], tmp_path: Path
) -> None:
    make_phantom(tmp_path / "data", size=TINY, sites=["site-1", "site-2"])
    name_a_file(tmp_path / "data" / "prostate" / "site-1", "test", lambda d: d[: len(d) // 2] if damaged else d)
    workspace = tmp_path / "workspace"
    job = job_of(tmp_path / "jobs", rounds=1)
    done = simulate(job.path, workspace=workspace, home=tmp_path / "home", data=tmp_path / "data", uid="run-1")
    assert done.ok is not damaged
    assert done.result is not None
    at_server = [*(workspace / "server").rglob("*"), *(done.run_folder / "server").rglob("*")]
    files = [path for path in at_server if path.is_file()]
    assert {"result.json", "events.jsonl"} <= {path.name for path in files}
    assert [str(path) for path in files if PATIENT.encode() in path.read_bytes()] == []
    if damaged:
        assert "site-1: data_unfit: its data is missing or not fit for training" in str(done.result.error)
        assert any(PATIENT in problem for problem in done.problems)
        events = [json.loads(line) for line in (done.run_folder / "site-1" / "events.jsonl").open()]
        assert PATIENT in events[-1]["error"]
