"""What every change uses: the two registers, and a draft made one of volumes or of pictures.

``FITS`` must pass the check and then never fail; ``REFUSED`` must not pass it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from drafts import Draft, File

Change = Callable[[Draft], None]
FITS: dict[str, Change] = {}
REFUSED: dict[str, Change] = {}


def fits(change: Change) -> Change:
    """Register a change that leaves a site fit for training."""
    FITS[change.__name__] = change
    return change


def refused(change: Change) -> Change:
    """Register a change that the check must refuse."""
    REFUSED[change.__name__] = change
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
    """Return all files."""
    return [*draft.images, *draft.masks]


def edit(draft: Draft, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of dataset.json."""
    draft.edits.append(change)
