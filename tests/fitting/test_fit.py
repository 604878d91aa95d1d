"""`sitelora fit`: a tiny job is probed for real, in processes of its own; want of memory is told as such."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sitelora.cli import main
from sitelora.federation.job_folder import JobFolder
from sitelora.fitting.child import DoesNotFit, FitError, run_probe
from sitelora.fitting.fit import FEWER_STEPS, fit
from sitelora.fitting.measured import Measured, ProbeRequest

JobOf = Callable[..., JobFolder]


def test_a_tiny_job_ends_with_a_table(
    tmp_path: Path, tiny_data: Path, job_of: JobOf, capsys: pytest.CaptureFixture[str]
) -> None:
    job, file = job_of(tmp_path / "job"), tmp_path / "fit.json"
    asked = ["fit", str(job.path), "--data", str(tiny_data), "--site", "site-2", "--quick", "--json", str(file)]
    assert main([*asked, "--set", "epochs=3", "--memory", "16"]) == 0
    out = capsys.readouterr().out
    assert ": fits\n" in out
    assert "site-2's own data (2 training, 1 validation, 1 test cases)" in out
    assert "a round (6 steps of batch 1)" in out
    told = json.loads(file.read_text(encoding="utf-8"))
    assert [each["batch"] for each in told["tried"]] == [1, 2]
    assert told["measured"]["device"] == "cpu"
    assert told["measured"]["cases"] == {"training": 2, "validation": 1, "test": 1}
    assert told["seconds"]["steps"] == 3 * 2, "two cases, three times, one a step"
    assert told["measured"]["case_bytes"] == 2 * 4 * 32 * 32 * 6, "image and mask of six slices in fp32"
    assert 0.2e9 < told["bytes"] < 1.5e9, "torch and MONAI, and little else"
    assert told["here"] > 1
    assert sorted(told["largest_batch"]) == ["16 GB", "24 GB", "8 GB", "80 GB"]


def test_views_and_what_is_kept_of_them_are_counted(
    tmp_path: Path, tiny_data: Path, job_of: JobOf, capsys: pytest.CaptureFixture[str]
) -> None:
    job, file = job_of(tmp_path / "job"), tmp_path / "fit.json"
    asked = ["fit", str(job.path), "--data", str(tiny_data), "--site", "site-2", "--quick", "--json", str(file)]
    set_here = ["--set", "views=3", "--set", "prefix_cache=true", "--memory", "16"]
    assert main([*asked, *set_here]) == 0
    assert "kept by prefix_cache" in capsys.readouterr().out
    measured = json.loads(file.read_text(encoding="utf-8"))["measured"]
    slices = int(job.job.run_settings().parser()["slices"])
    assert measured["case_bytes"] == 2 * 4 * 32 * 32 * (6 + 3 * slices), "image and mask, whole and of three views"
    assert measured["prefix_case_bytes"] > 0


def test_want_of_memory_is_told_and_the_command_lives(
    tmp_path: Path, tiny_data: Path, job_of: JobOf, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth of a gigabyte does not even hold torch: the child is ended while it imports it."""
    asked = ["fit", str(job_of(tmp_path / "job").path), "--data", str(tiny_data), "--memory", "0.1"]
    assert main(asked) == 2
    err = capsys.readouterr().err
    assert "does not fit at batch 1 in 0.10 GB: it grew beyond 0.10 GB and was ended" in err
    assert "smaller image_size" in err


def test_what_cannot_be_probed_is_refused_by_name(
    tmp_path: Path, job_of: JobOf, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(tmp_path / "nothing")]) == 2
    assert "expected a job folder such as jobs/iat_prostate" in capsys.readouterr().err
    job = str(job_of(tmp_path / "job").path)
    assert main(["fit", job, "--site", "site-9"]) == 2
    assert "has no site site-9; expected one of site-1, site-2" in capsys.readouterr().err
    assert main(["fit", job, "--data", str(tmp_path)]) == 2
    assert "no data for dataset 'prostate'" in capsys.readouterr().err
    assert main(["fit", job, "--set", "batch=2"]) == 2
    assert "nothing is called batch" in capsys.readouterr().err


def test_a_request_to_end_leaves_nothing_behind(tmp_path: Path, tiny_data: Path, job_of: JobOf) -> None:
    """SIGTERM while a probe is at work: its process, and the folder that links to the site's images, are gone."""
    job, scratch = job_of(tmp_path / "job"), tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "sitelora.cli", "fit", str(job.path), "--data", str(tiny_data)]
    env = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    fitting = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        probes: list[psutil.Process] = []
        while not probes and fitting.poll() is None:
            probes = psutil.Process(fitting.pid).children(recursive=True)
            time.sleep(0.05)
        assert probes, "it started a probe"
        assert list(scratch.glob("sitelora-fit-*/data/**/*.nii.gz")), "links to the site's images"
        fitting.send_signal(signal.SIGTERM)
        _, said = fitting.communicate(timeout=60)
    finally:
        fitting.kill()
        fitting.wait()
    assert (fitting.returncode, "sitelora: stopped" in said) == (128 + signal.SIGINT, True)
    assert not list(scratch.glob("sitelora-fit-*"))
    psutil.wait_procs(probes, timeout=10)
    assert not [probe.pid for probe in probes if probe.is_running()]


def request_of(job: JobFolder, folder: Path, data: str, *, batch: int = 1) -> ProbeRequest:
    plain = job.job.to_json()
    plain["settings"] |= {"batch_size": batch}
    folder.mkdir(exist_ok=True)
    return ProbeRequest(job=plain, site="site-1", data=data, home=str(folder), steps=FEWER_STEPS, evaluates=False)


def test_a_probe_that_fails_for_another_reason_says_so(tmp_path: Path, job_of: JobOf) -> None:
    request = request_of(job_of(tmp_path / "job"), tmp_path / "home", str(tmp_path / "none"))
    with pytest.raises(FitError, match="found no such folder, expected a site folder"):
        run_probe(request, most_bytes=None)
    assert isinstance(run_probe(request, most_bytes=50_000_000), DoesNotFit)


@pytest.mark.soak
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peaks of phases need Linux")
def test_a_third_batch_is_on_the_line(tmp_path: Path, tiny_data: Path, job_of: JobOf) -> None:
    job = job_of(tmp_path / "job", overrides={"image_size": 96, "base": None, "precision": "fp32", "slices": 3})
    given: dict[str, Any] = {"values": {}, "memory_bytes": None, "data": tiny_data}
    found = fit(job.job, site="site-1", quick=True, **given)
    folder = str(tiny_data / "prostate" / "site-1")
    third = run_probe(request_of(job, tmp_path / "home", folder, batch=8), most_bytes=None)
    assert isinstance(third, Measured)
    assert found.line.at(8) == pytest.approx(third.train.process, rel=0.15)
