"""The data contract of a site: one folder, one ``dataset.json`` (a MONAI datalist), splits by patient."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sitelora.data.case_names import unique_names
from sitelora.data.errors import SiteDataError as SiteDataError
from sitelora.data.errors import first_few as first_few
from sitelora.data.site_entries import (
    FILES,
    LONGEST_HOSPITAL,
    check_entry,
    check_keys,
    check_labels,
    read_list,
    require_tellable,
    text_of,
)
from sitelora.disk import GIVE_RIGHT
from sitelora.home import DATA_VARIABLE, data_root
from sitelora.names import checked_name

DATALIST = "dataset.json"
SPLITS = ("training", "validation", "test")
_TOLD = ("name", "hospital", "modality", "labels", "source")
"""What else ``dataset.json`` may say; further keys are ignored, unless they hold cases."""
WITH_PHANTOM = ("prostate", "prostate_shifts", "cine")
"""Datasets of which ``<dataset>_phantom`` draws an artificial version."""

Progress = Callable[[str, int, int], None]
"""Called with the site, the cases done and the cases of that site."""


@dataclass(frozen=True, kw_only=True)
class SiteFolder:
    """What ``dataset.json`` of one site says; no image has been opened.

    Attributes:
        path: the site folder.
        name: the site's name in the federation, equal to the folder's name.
        hospital: the institution behind the name.
        labels: label value to structure, 0 is the background.
        splits: split to its entries, each with ``image``, ``label`` or ``class``, ``patient`` and extra
            fields; file paths are relative to ``path``.
        modality: what made the images, e.g. ``"MRI T2"``.
        source: where the folder came from (converter or generator and its settings).
    """

    path: Path
    name: str
    hospital: str
    labels: Mapping[int, str]
    splits: Mapping[str, tuple[Mapping[str, Any], ...]]
    modality: str = ""
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def read(cls, path: Path) -> SiteFolder:
        """Read ``<path>/dataset.json``.

        Raises:
            SiteDataError: no such folder or file, not JSON, or an entry without image or patient.
        """
        file = Path(path) / DATALIST
        try:
            present = file.is_file()
        except OSError as error:
            raise SiteDataError(f"{path}: not readable ({error}); {GIVE_RIGHT}") from error
        if not present:
            found = "no such folder" if not Path(path).is_dir() else f"a folder without {DATALIST}"
            raise SiteDataError(
                f"{path}: found {found}, expected a site folder with {DATALIST}, images/ and labels/; "
                "make one with `sitelora prepare` or write the file by hand (docs/data.md shows it)"
            )
        return cls.from_json(read_list(file), path=Path(path))

    @classmethod
    def from_json(cls, content: Any, *, path: Path) -> SiteFolder:
        """Build a site folder from the parsed ``dataset.json``.

        Raises:
            SiteDataError: naming the key and the entry that is not as the contract says.
        """
        file = Path(path) / DATALIST
        if not isinstance(content, dict):
            raise SiteDataError(f"{file}: found {type(content).__name__}, expected a JSON object; see docs/data.md")
        check_keys(content, SPLITS, _TOLD, file)
        splits = {split: tuple(content.get(split, ())) for split in SPLITS if _is_list(content, split, file)}
        for split, entries in splits.items():
            for number, entry in enumerate(entries):
                check_entry(entry, f"{file}: {split}[{number}]")
        own = Path(os.path.abspath(path)).name
        name = content.get("name", own)
        if name != own:
            raise SiteDataError(
                f"{file}: the name is {name!r} and the folder's name is {own!r}, "
                "expected them to be equal and to be the site's name in the federation; rename the folder or "
                "correct the file"
            )
        _require_name("site", name)
        hospital = text_of(content, "hospital", name, file)
        require_tellable("the hospital's name", hospital, LONGEST_HOSPITAL, file)
        return cls(
            path=Path(path),
            name=name,
            hospital=hospital,
            labels=check_labels(content.get("labels"), file),
            splits=splits,
            modality=text_of(content, "modality", "", file),
            source=content["source"] if isinstance(content.get("source"), dict) else {},
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``dataset.json`` holds; the inverse of :meth:`from_json`."""
        return {
            "name": self.name,
            "hospital": self.hospital,
            "modality": self.modality,
            "labels": {str(value): name for value, name in sorted(self.labels.items())},
            "source": dict(self.source),
            **{split: [dict(entry) for entry in self.splits.get(split, ())] for split in SPLITS},
        }

    def cases(self, split: str) -> list[dict[str, Any]]:
        """Return the entries of ``split`` with absolute file paths, as MONAI's ``LoadImaged`` wants them.

        Raises:
            KeyError: ``split`` is none of training, validation, test.
        """
        if split not in SPLITS:
            raise KeyError(f"site {self.name}: no split {split!r}, expected one of {', '.join(SPLITS)}")
        root = self.path.absolute()
        return [
            {key: str(root / value) if key in FILES else value for key, value in entry.items()}
            for entry in self.splits.get(split, ())
        ]

    @cached_property
    def case_names(self) -> Mapping[str, str]:
        """The one name of every case by its image's path, relative as listed and absolute as in :meth:`cases`."""
        listed = {str(entry["image"]) for split in SPLITS for entry in self.splits.get(split, ())}
        root = self.path.absolute()
        named = unique_names(listed)
        return named | {str(root / path): name for path, name in named.items()}

    def case_counts(self) -> dict[str, int]:
        """Return the number of cases in every split, splits that are left out counting 0."""
        return {split: len(self.splits.get(split, ())) for split in SPLITS}


def find_site_folder(dataset: str, site: str, root: Path | None = None) -> Path:
    """Return ``<root>/<dataset>/<site>``, the root being this site's own affair and never the job's.

    Args:
        dataset: the dataset's name, as the job gives it.
        site: the site's name in the federation.
        root: ``None`` for :func:`sitelora.home.data_root`.

    Raises:
        SiteDataError: a name is not a plain folder name, or the folder has no ``dataset.json``.
    """
    for kind, name in (("dataset", dataset), ("site", site)):
        _require_name(kind, name)
    base = Path(root) if root is not None else data_root()
    folder = base / dataset / site
    if not (folder / DATALIST).is_file():
        found = "a folder without it" if folder.is_dir() else "no such folder"
        drawn = f" (or, artificial, with `sitelora prepare {dataset}_phantom --out {base}`)"
        raise SiteDataError(
            f"site {site}: no data for dataset {dataset!r}: looked for {folder / DATALIST}, found {found}. "
            f"Make it with `sitelora prepare {dataset} --source DIR --out {base}`"
            f"{drawn if dataset in WITH_PHANTOM else ''}, or set {DATA_VARIABLE} to the folder that "
            f"holds {dataset}/{site}"
        )
    return folder


def without_data(dataset: str, sites: Iterable[str], root: Path | None = None) -> list[str]:
    """Return why sites have no folder, a message a site; arguments as of `find_site_folder`."""
    missing = []
    for site in sites:
        try:
            find_site_folder(dataset, site, root)
        except SiteDataError as error:
            missing.append(str(error))
    return missing


def _require_name(kind: str, name: object) -> None:
    try:
        checked_name(kind, name)
    except ValueError as error:
        raise SiteDataError(str(error)) from error


def _is_list(content: Mapping[str, Any], split: str, file: Path) -> bool:
    entries = content.get(split)
    if entries is not None and not isinstance(entries, list):
        raise SiteDataError(
            f"{file}: {split!r} is a {type(entries).__name__}, expected a list of cases; see docs/data.md"
        )
    return entries is not None
