"""Whose image an annotator had before her: a case of the site folder by its pixels, else a patient by name.

By pixels and not by bytes or names: a viewer packs a file anew and a copy is called otherwise, but an image of a test
patient must be known again whatever it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.data.corrections.patients import image_key
from sitelora.data.endings import stem
from sitelora.data.errors import SiteDataError, UnfitFileError, first_few
from sitelora.data.likeness import Likeness, likenesses
from sitelora.data.reading import Pixels
from sitelora.data.rules import read_image
from sitelora.data.site_entries import patient_key
from sitelora.data.site_folder import SPLITS, Progress, SiteFolder

TRAINING, HELD_OUT = SPLITS[0], SPLITS[1:]


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose image it is.

    Attributes:
        split: to which it belongs. patient: as the site folder names the patient, or will.
        place: of the case in its split; ``None`` of an image that the site folder does not have.
        known: whether the site folder has the patient.
    """

    split: str
    patient: Any
    place: int | None = None
    known: bool = True


@dataclass(kw_only=True)
class Owners:
    """The images and patients of a site folder.

    Attributes:
        folder: the site folder. table: image to patient, for images that it does not have.
    """

    folder: SiteFolder
    table: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._images: list[tuple[str, int, tuple[Likeness, ...]]] = []
        self._names: dict[str, str] = {}
        self._patients: dict[str, tuple[str, Any]] = {}
        self._asked: list[tuple[str, tuple[Likeness, ...]]] = []
        self._told: set[str] = set()
        self._untold: list[str] = []

    def learn(self, progress: Progress | None = None) -> None:
        """Read every image of the site folder, one at a time.

        Raises:
            SiteDataError: one is not readable, so that nobody can tell whether it is among the corrected ones.
        """
        total, done = sum(self.folder.case_counts().values()), 0
        for split in reversed(SPLITS):  # where something stands in two splits, that it is held out counts
            for place, entry in enumerate(self.folder.splits.get(split, ())):
                try:
                    image = read_image(self.folder.path / entry["image"])
                except UnfitFileError as refusal:
                    raise SiteDataError(
                        f"{refusal}. Mend the site folder first: `sitelora check` says how"
                    ) from refusal
                self._images.append((split, place, likenesses(image)))
                self._names.setdefault(stem(Path(entry["image"])).casefold(), str(entry["image"]))
                self._patients.setdefault(patient_key(entry["patient"]), (split, entry["patient"]))
                done += 1
                if progress is not None:
                    progress(self.folder.name, done, total)

    def of(self, image: Pixels, path: Path) -> Owner:
        """Return whose image it is.

        Args:
            image: as ``read_image`` gives it. path: of the file.

        Raises:
            UnfitFileError: it was asked for already under another name, or is another image than the site folder's of
                that name, and nobody says whose.
        """
        views = likenesses(image)
        for asked, known in self._asked:
            if _like(views, known):
                found, remedy = f"the image that {asked} is too", "keep the right label of the two"
                raise UnfitFileError(path, found, "one final label an image", remedy)
        self._asked.append((path.name, views))
        for split, place, known in self._images:
            if _like(views, known):
                return Owner(split=split, place=place, patient=self.folder.splits[split][place]["patient"])
        name, key = stem(path), image_key(path)
        other = self._names.get(name.casefold())
        if other is not None and key not in self.table:
            raise UnfitFileError(
                path,
                f"another image than {other} of the site folder, under its name",
                "the site folder's image, or a name of its own",
                "annotate the site folder's image, or say whose it is with --patients",
            )
        (self._told.add if key in self.table else self._untold.append)(key)
        patient = self.table.get(key, name)
        split, listed = self._patients.get(patient_key(patient), (TRAINING, patient))
        return Owner(split=split, patient=listed, known=patient_key(patient) in self._patients)

    def require_told(self) -> None:
        """Refuse a table that names images which nobody has, beside an image that it does not name: a new patient's.

        One name may be the other, misspelt, and the patient one of the test cases.

        Raises:
            SiteDataError: names both.
        """
        strangers = [key for key in self.table if key not in self._told]
        if strangers and self._untold:
            raise SiteDataError(
                f"--patients: found {first_few(strangers)}, which no new image is called, and nothing about "
                f"{first_few(self._untold)}; expected the images' own names: correct the column image, or add a line "
                "for every new image"
            )


def _like(some: tuple[Likeness, ...], others: tuple[Likeness, ...]) -> bool:
    return any(one.like(other) for one in some for other in others)
