"""A file that is whole and closed is told as that: the remedy is a right, not another file."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from rights import bound, said_by
from sitelora.disk import GIVE_RIGHT

BASES = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from sitelora.federation.files import load_tensors
from sitelora.networks.tensor_file import read_tensors

folder = Path(sys.argv[1])
save_file({"w": torch.ones(2)}, folder / "base.safetensors")
torch.save({"w": torch.ones(2)}, folder / "base.pt")
for read, name in ((load_tensors, "base.safetensors"), (read_tensors, "base.safetensors"), (read_tensors, "base.pt")):
    (folder / name).chmod(0)
    try:
        read(folder / name)
    except Exception as error:
        print(error)
"""


@pytest.mark.parametrize("closed", ["dataset.json", "image", "label"])
def test_a_closed_file_of_a_site_folder(closed: str, tiny_data: Path, tmp_path: Path, repository: Path) -> None:
    site = shutil.copytree(tiny_data / "prostate" / "site-1", tmp_path / "site-1")
    file = site / closed if closed == "dataset.json" else min((site / f"{closed}s").iterdir())
    file.chmod(0)
    run = said_by(f"check {site}", repository=repository)
    (line,) = [each for each in run.stdout.splitlines() if "may not read" in each]
    assert file.name in line
    assert "found a file that this user may not read, expected " in line
    assert line.endswith(GIVE_RIGHT)
    assert not any(words in run.stdout for words in ("regenerate", "export it again", "take the case out"))


def test_a_closed_base_and_a_closed_state(tmp_path: Path, repository: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(repository / "custom")}
    run = bound([sys.executable, "-c", BASES, str(tmp_path)], env=env)
    lines = run.stdout.splitlines()
    assert len(lines) == 3, run.stderr
    for line in lines:
        assert f"is a file that this user may not read; {GIVE_RIGHT}" in line
