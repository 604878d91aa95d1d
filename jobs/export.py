"""Write every job folder that is committed here: python jobs/export.py [FOLDER]. A test compares them.

The jobs are in the package (``sitelora.job_table``), so that `sitelora job` writes them without a checkout; here they
carry the folder that lets NVFlare's own simulator run them with no flag.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sitelora.federation.job_folder import JobFolder
from sitelora.job_table import JOBS, find_job


def export_all(folder: Path) -> list[Path]:
    """Write all jobs below ``folder`` and return their folders."""
    return [JobFolder.write(find_job(name), folder / name, marker=True).path for name in JOBS]


if __name__ == "__main__":
    for path in export_all(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent):
        print(path)
