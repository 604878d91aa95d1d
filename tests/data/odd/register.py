"""What every change uses: the registers, and a draft made one of volumes or of pictures.

``FITS`` must pass the check and then never fail; ``REFUSED`` must not pass it. The registers of classes are of
folders with a class per case alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from drafts import Draft, File

Change = Callable[[Draft], None]
FITS: dict[str, Change] = {}
REFUSED: dict[str, Change] = {}
FITS_CLASSES: dict[str, Change] = {}
REFUSED_CLASSES: dict[str, Change] = {}


def fits(change: Change) -> Change:
    """Register a change that leaves a site fit for training."""
    FITS[change.__name__] = change
    return change


def refused(change: Change) -> Change:
    """Register a change that the check must refuse."""
    REFUSED[change.__name__] = change
    return change


def fits_classes(change: Change) -> Change:
    """Register a change that leaves a folder of classes fit for training."""
    FITS_CLASSES[change.__name__] = change
    return change


def refused_classes(change: Change) -> Change:
    """Register a change of a folder of classes that the check must refuse."""
    REFUSED_CLASSES[change.__name__] = change
    return change


def volumes(draft: Draft) -> None:
    """Make a draft of pictures one of volumes."""
    if draft.pictures:
        draft.pictures = draft.values["pictures"] = False
        for file in (*draft.images, *draft.masks):
            file.values = np.stack([file.values] * 4, -1)
            file.affine = np.diag([1.5, 1.5, 4.0, 1.0])
            file.path = file.path.replace(".png", ".nii.gz")


def pictures(draft: Draft) -> None:
    """Make a draft of volumes one of pictures."""
    if not draft.pictures:
        draft.pictures = draft.values["pictures"] = True
        for file in (*draft.images, *draft.masks):
            file.values = file.values[..., 0].astype(np.uint8)
            file.affine = None
            file.path = file.path.replace(".nii.gz", ".png")


def each(draft: Draft) -> list[File]:
    """Return all files that are opened: no masks where cases have a class."""
    return draft.images if draft.classed else [*draft.images, *draft.masks]


def edit(draft: Draft, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of dataset.json."""
    draft.edits.append(change)
