"""A studies folder as MONAI Label leaves it, of a site folder's images: images, labels/final, datastore_v2.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


@dataclass(frozen=True)
class Desk:
    """What an annotator has before her: the studies folder, and the site folder that its images are from."""

    studies: Path
    site: Path

    def image(self, case: str, name: str = "") -> str:
        """Copy an image of the site folder, under another name if one is given, and return its id."""
        id = name or case
        shutil.copyfile(self.site / "images" / f"{case}.nii.gz", self.studies / f"{id}.nii.gz")
        return id

    def correct(self, case: str, name: str = "", **how: Any) -> str:
        """Copy an image and submit a mask with one voxel more."""
        id = self.image(case, name)
        mask = nib.load(self.site / "labels" / f"{case}.nii.gz")
        values = np.asanyarray(mask.dataobj).astype(how.get("dtype", np.uint8))
        values[tuple(how.get("voxel", (0, 0, 0)))] = how.get("value", 1)
        values = how.get("change", lambda values: values)(values)
        nib.save(nib.Nifti1Image(values, how.get("affine", mask.affine)), self.final(id))
        return id

    def final(self, id: str, ending: str = ".nii.gz") -> Path:
        """Return where an image's final label lies."""
        return self.studies / "labels" / "final" / f"{id}{ending}"

    def list(self, objects: Mapping[str, Any] | None = None) -> None:
        """Write Label's list: all that lies there, and what else is given."""
        there = {
            file.name.removesuffix(".nii.gz"): {
                "image": {"ext": ".nii.gz", "info": {"name": file.name}},
                "labels": {"final": {"ext": ".nii.gz", "info": {}}} if self.final(file.name[:-7]).exists() else {},
            }
            for file in self.studies.glob("*.nii.gz")
        }
        told = {"name": "new-dataset", "description": "", "images_dir": ".", "labels_dir": "labels"}
        told["objects"] = {**there, **(objects or {})}
        (self.studies / "datastore_v2.json").write_text(json.dumps(told))

    def entries(self, site: Path | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return the three lists of a site folder."""
        content = json.loads(((site or self.site) / "dataset.json").read_text())
        return {split: content[split] for split in ("training", "validation", "test")}
