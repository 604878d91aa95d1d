"""Pictures with masks as a site folder: what the converters of fundus and histology pictures have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sitelora.data.site_folder import Progress, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder


@dataclass(frozen=True, kw_only=True)
class MaskedPicture:
    """One picture of a release.

    Attributes:
        file: its name in the site folder, a PNG. patient: whose.
        read: returns the picture ``[H, W, 3]`` uint8 and its labels ``[H, W]`` uint8.
    """

    file: str
    patient: str
    read: Callable[[], tuple[np.ndarray, np.ndarray]]


def write_pictures(
    target: Path,
    splits: Mapping[str, Sequence[MaskedPicture]],
    *,
    overwrite: bool,
    progress: Progress | None,
    **described: Any,
) -> Path:
    """Write a site folder of pictures; ``described`` is what its ``dataset.json`` says of the site.

    Raises:
        SiteDataError: picture and mask differ in size, or other data is at the folder's place.
    """
    entries = {
        split: tuple(
            {"image": f"images/{one.file}", "label": f"labels/{one.file}", "patient": one.patient} for one in pictures
        )
        for split, pictures in splits.items()
    }
    folder = SiteFolder(path=target, name=target.name, splits=entries, **described)
    every = [one for pictures in splits.values() for one in pictures]

    def fill(path: Path) -> None:
        for done, one in enumerate(every, 1):
            image, labels = one.read()
            if image.shape != (*labels.shape, 3):
                raise SiteDataError(
                    f"{target.name}/{one.file}: found a picture of shape {image.shape} and a mask of {labels.shape}, "
                    "expected [H, W, 3] and [H, W]; take both from the release again"
                )
            Image.fromarray(image).save(path / "images" / one.file)
            Image.fromarray(labels).save(path / "labels" / one.file)
            if progress is not None:
                progress(target.name, done, len(every))

    write_site_folder(folder, fill, overwrite=overwrite)
    return target


def whole_patients(cases: Mapping[str, Sequence[MaskedPicture]]) -> dict[str, list[MaskedPicture]]:
    """Return the splits with every patient in one of them: in the test where a picture of the patient is there."""
    tested = {one.patient for one in cases.get("test", ())}
    found: dict[str, list[MaskedPicture]] = {split: [] for split in cases}
    for split, some in cases.items():
        for one in some:
            found["test" if one.patient in tested else split].append(one)
    return {split: sorted(some, key=lambda one: one.file) for split, some in found.items()}
