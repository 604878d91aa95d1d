"""A site at the level strict with a job deployed to it as NVFlare does."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from nvflare.apis.workspace import Workspace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "attacks"))
from hostile_jobs import AGREED, LEAD

JOB_ID = "5a8bc6a5-b5ad-4cbf-a332-bb5463c73e12"


def deploy(root: Path, job: Path, *, submitter: str = LEAD, site: str = "site-1", **policy: Any) -> Workspace:
    """Make a site's kit below ``root``, with the job in it; ``policy`` stands in place of what the level says."""
    for folder in ("startup", "local"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    told = {"policy": {"level": "strict", **AGREED, **policy}}
    (root / "local" / "sitelora.json").write_text(json.dumps(told), encoding="utf-8")
    classes = {"class_allow_list": ["*"]}  # NVFlare's own list lets everything pass: the policy alone is tried
    (root / "local" / "resources.json").write_text(json.dumps(classes), encoding="utf-8")
    workspace = Workspace(str(root), site)
    shutil.rmtree(workspace.get_run_dir(JOB_ID), ignore_errors=True)
    shutil.copytree(job / "app", workspace.get_app_dir(JOB_ID), symlinks=True)
    meta = json.loads((job / "meta.json").read_text(encoding="utf-8"))
    meta.update(job_id=JOB_ID, submitter_name=submitter)
    Path(workspace.get_job_meta_path(JOB_ID)).write_text(json.dumps(meta), encoding="utf-8")
    return workspace
