"""What becomes of a final label: judged by the rules of training, then by whose image it is.

Held-out patients teach nothing: a correction of one in test **or validation** is kept aside and counted. It does not
replace the old mask there either (our choice): a mask that was corrected from a model's proposal is nearer to this
model than one drawn on an empty image, and scores before and after would not be of the same truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sitelora.data.corrections.owners import HELD_OUT, TRAINING, Owner, Owners
from sitelora.data.corrections.studies import Final
from sitelora.data.errors import UnfitFileError
from sitelora.data.reading import Pixels
from sitelora.data.rules import read_image, read_label, same_grid

CORRECTED, ADDED, ASIDE, SAME = "corrected", "added", "kept aside", "unchanged"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A label that is fit.

    Attributes:
        final: the label. owner: whose image it is. kind: CORRECTED, ADDED, ASIDE or SAME.
        words: what becomes of it. sha256: of its file.
    """

    final: Final
    owner: Owner
    kind: str
    words: str
    sha256: str


def judged(final: Final, owners: Owners) -> Taken:
    """Return what becomes of a label.

    Raises:
        UnfitFileError: it is none for its image, by the rules of training, or nobody can tell whose image that is.
    """
    image = read_image(final.image)
    label = read_label(final.label, owners.folder.labels)
    same_grid(image, label, final.label)
    owner = owners.of(image, final.image)
    kind, words = _becomes(final, label, owner, owners)
    if kind in (CORRECTED, ADDED) and not label.values.any():
        words += "; the mask is empty: look whether that is meant"
    return Taken(
        final=final, owner=owner, kind=kind, words=words, sha256=hashlib.sha256(final.label.read_bytes()).hexdigest()
    )


def _becomes(final: Final, label: Pixels, owner: Owner, owners: Owners) -> tuple[str, str]:
    if owner.split in HELD_OUT:
        return ASIDE, f"its patient is in {owner.split}: kept aside, never trained on"
    if owner.place is None:
        whose = "a patient who is there" if owner.known else f"a new patient, {owner.patient}"
        return ADDED, f"a new training case of {whose}"
    entry = owners.folder.splits[TRAINING][owner.place]
    case, changed = owners.folder.case_names[str(entry["image"])], _changed(final, label, entry, owners)
    if changed == 0:
        return SAME, f"the mask that training case {case} has"
    return CORRECTED, f"corrects training case {case}" + ("" if changed is None else f" in {changed} voxel(s)")


def _changed(final: Final, label: Pixels, entry: Mapping[str, Any], owners: Owners) -> int | None:
    """Return how many voxels differ from the case's mask, ``None`` where it has no readable one.

    Raises:
        UnfitFileError: the label does not lie on the site folder's image, which is stored otherwise than the studies'.
    """
    root = owners.folder.path
    same_grid(read_image(root / entry["image"]), label, final.label)
    try:
        before = read_label(root / entry["label"])
    except (KeyError, UnfitFileError):
        return None
    return int((before.values != label.values).sum()) if before.values.shape == label.values.shape else None
