"""Two small sites from a committed file: what fingerprints stand on, whatever becomes of the drawn phantom.

``fixed_input.npz`` was made once, from the phantom of version 3 at 32 x 32 x 6: by site four volumes (two training, one
validation, one test) as uint8, their label maps and one affine. It is written as NIfTI by nibabel alone, so that
nothing of this package has a say in what the sites read.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

SITES = ("site-1", "site-2")
SPLITS = {"training": (0, 1), "validation": (2,), "test": (3,)}
FILE = Path(__file__).with_name("fixed_input.npz")


def write_fixed_input(root: Path) -> Path:
    """Write ``<root>/prostate/<site>`` for both sites; return ``root``."""
    with np.load(FILE, allow_pickle=False) as stored:
        for site in SITES:
            folder = root / "prostate" / site
            for kind in ("images", "labels"):
                (folder / kind).mkdir(parents=True)
                for number, voxels in enumerate(stored[f"{site}/{kind}"]):
                    volume = nibabel.Nifti1Image(voxels, stored[f"{site}/affine"])
                    nibabel.save(volume, folder / kind / f"case-{number:03d}.nii.gz")
            (folder / "dataset.json").write_text(json.dumps(_description(site), indent=2) + "\n", encoding="utf-8")
    return root


def _description(site: str) -> dict[str, object]:
    entries = {
        split: [
            {
                "image": f"images/case-{number:03d}.nii.gz",
                "label": f"labels/case-{number:03d}.nii.gz",
                "patient": f"{site}-case-{number:03d}",
            }
            for number in numbers
        ]
        for split, numbers in SPLITS.items()
    }
    return {
        "name": site,
        "hospital": f"fixed input, {site}",
        "modality": "MRI T2 (artificial)",
        "labels": {"0": "background", "1": "prostate"},
        "source": {"made_by": "tests/support/fixed_input.npz"},
        **entries,
    }
