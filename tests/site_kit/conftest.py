"""Real kits, provisioned once by NVFlare itself; a test gets a copy that it may change."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sitelora.site_kit.project import write_project

ADMIN, LEAD = "admin@sitelora.example", "lead@sitelora.example"


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provisioned")
    project = folder / "project.yml"
    write_project(project, name="trial", server="localhost", sites=["site-1", "site-2"], admin=ADMIN, lead=LEAD)
    command = [str(Path(sys.executable).parent / "nvflare"), "provision", "-p", str(project), "-w", str(folder / "ws")]
    done = subprocess.run([*command, "--force"], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def lead_side(provisioned: Path, tmp_path: Path) -> Path:
    """The folder in which the kits were made: project.yml, and the workspace ws."""
    return Path(shutil.copytree(provisioned, tmp_path / "lead"))


@pytest.fixture
def kits(lead_side: Path) -> Path:
    return lead_side / "ws" / "trial" / "prod_00"
