"""Why a job failed, from logs as NVFlare 2.9 writes them."""

import json
from pathlib import Path

import pytest

from sitelora.site_kit.startup_kit import KitError
from sitelora.site_kit.why import reasons

JOB, OTHER = "fee06085-7f49-489e-86d6-6d01eeb5b461", "c5396310-dfbd-4fed-8852-bff2c9ff8166"
LOG = f"""\
2026-11-27 11:10:15,500 - ClientEngine - INFO - Starting client app. {JOB}
2026-11-27 11:10:15,535 - JobRunner - ERROR - [identity=server, run=?] - Failed to run the Job ({OTHER}): another
2026-11-27 11:10:15,574 - JobRunner - ERROR - [identity=server, run=?] - Failed to run the Job ({JOB}): to these: \n\
\tsite-1: refuses the job: datasets: 'prostate', allowed are cine.
\tsite-2: refuses the job.
2026-11-27 11:10:15,580 - JobRunner - INFO - [identity=server, run=?] - next
"""
ERRORS = """\
2026-11-27 11:07:13,094 - FederationController - ERROR - [identity=x, run=y, wf=z] - the federation failed: it runs
Traceback (most recent call last):
  File "controller.py", line 91, in _run
RunningError: it runs
2026-11-27 11:07:13,094 - FederationController - ERROR - [identity=x, run=y, wf=z] - the federation failed: it runs
"""


def test_the_servers_log_says_it_site_by_site_and_of_this_job_alone(kits: Path) -> None:
    kit = kits / "localhost"
    (kit / "log.txt").write_text(LOG, encoding="utf-8")
    (text,) = reasons(kit, JOB)
    assert text.splitlines()[0].endswith(f"({JOB}): to these:")
    assert text.splitlines()[1:] == [
        "site-1: refuses the job: datasets: 'prostate', allowed are cine.",
        "site-2: refuses the job.",
    ]
    assert reasons(kit, "00000000-0000-0000-0000-000000000000") == []
    with pytest.raises(KitError, match="expected the job_id"):
        reasons(kit, "../../elsewhere")


def test_a_sites_own_log_of_the_job_counts_too(kits: Path) -> None:
    (kits / "site-1" / JOB).mkdir()
    (kits / "site-1" / JOB / "error_log.txt").write_text(ERRORS, encoding="utf-8")
    assert reasons(kits / "site-1", JOB) == ["the federation failed: it runs"]


def test_a_downloaded_job_says_its_result_else_its_errors(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "error_log.txt").write_text(ERRORS, encoding="utf-8")
    assert reasons(tmp_path) == ["the federation failed: it runs"]
    (workspace / "result.json").write_text(json.dumps({"error": "nothing was trained:\n site-1: x"}), encoding="utf-8")
    assert reasons(tmp_path) == ["nothing was trained:", " site-1: x"]
    (workspace / "result.json").write_text(json.dumps({"completed": True}), encoding="utf-8")
    (workspace / "error_log.txt").write_text("", encoding="utf-8")
    assert reasons(tmp_path) == []


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="nvflare job download"):
        reasons(tmp_path)
