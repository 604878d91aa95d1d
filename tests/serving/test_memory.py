"""What memory holds does not grow with a volume's length: 2,000 slices in a process of its own, below 1.2 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

# VmHWM and not ru_maxrss, which a process that was started from a large one inherits
PEAK = """
import sys
from pathlib import Path
from sitelora.cli import main
code = main(sys.argv[1:])
(peak,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print("peak", code, peak)
"""


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_thousand_slices_need_less_than_1200_mb(model: Path, tmp_path: Path, repository: Path) -> None:
    x, y, z = np.ogrid[:256, :256, :2000]
    values = (3 * x.astype(np.int16) + 2 * y.astype(np.int16) + z.astype(np.int16)) % np.int16(800)
    nib.save(nib.Nifti1Image(values, np.diag([-0.6, -0.6, 3.0, 1.0])), tmp_path / "long.nii.gz")
    del values
    words = ["predict", str(model), str(tmp_path / "long.nii.gz"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(repository / "custom")}
    run = subprocess.run([sys.executable, "-c", PEAK, *words], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    _, code, kilobytes = run.stdout.splitlines()[-1].split()
    assert code == "0"
    assert nib.load(tmp_path / "out" / "long_seg.nii.gz").shape == (256, 256, 2000)
    assert int(kilobytes) < 1_200_000
