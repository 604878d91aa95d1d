"""Masks that are drawn too wide, as one annotator may draw them: the fault that E7 puts into one site."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

LABELS = "labels"


def copy_wider(source: Path, target: Path, *, share: float) -> None:
    """Copy a file of a site folder; in a mask every label has grown into the background around it.

    Args:
        source: an image, which stays as it is, or a mask as a picture ``[H, W]``. share: of the shorter side, by how
            much a label grows.
    """
    if source.parent.name != LABELS:
        shutil.copyfile(source, target)
        return
    mask = np.asarray(Image.open(source))
    away, nearest = distance_transform_edt(mask == 0, return_indices=True)
    grown = np.where(away <= share * min(mask.shape), mask[tuple(nearest)], mask)
    Image.fromarray(grown.astype(mask.dtype)).save(target)
