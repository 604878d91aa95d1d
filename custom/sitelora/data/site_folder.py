"""The data contract of a site: one folder, one ``dataset.json`` (a MONAI datalist), splits by patient."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from sitelora.home import DATA_VARIABLE, data_root

DATALIST = "dataset.json"
SPLITS = ("training", "validation", "test")
WITH_PHANTOM = ("prostate",)
"""Datasets of which ``<dataset>_phantom`` draws an artificial version."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FILES = ("image", "label")

Progress = Callable[[str, int, int], None]
"""Called with the site, the cases done and the cases of that site."""


class SiteDataError(ValueError):
    """A site's data is missing or not what the contract asks for; the message says how to mend it."""


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return names for a message: the first of them, and that there are more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


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
        if not file.is_file():
            found = "no such folder" if not Path(path).is_dir() else f"a folder without {DATALIST}"
            raise SiteDataError(
                f"{path}: found {found}, expected a site folder with {DATALIST}, images/ and labels/; "
                "make one with `sitelora prepare` or write the file by hand (docs/data.md shows it)"
            )
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SiteDataError(f"{file}: not readable as JSON ({error}); correct or regenerate it") from error
        return cls.from_json(content, path=Path(path))

    @classmethod
    def from_json(cls, content: Any, *, path: Path) -> SiteFolder:
        """Build a site folder from the parsed ``dataset.json``.

        Raises:
            SiteDataError: naming the key and the entry that is not as the contract says.
        """
        file = Path(path) / DATALIST
        if not isinstance(content, dict):
            raise SiteDataError(f"{file}: found {type(content).__name__}, expected a JSON object; see docs/data.md")
        splits = {split: tuple(content.get(split, ())) for split in SPLITS if _is_list(content, split, file)}
        for split, entries in splits.items():
            for number, entry in enumerate(entries):
                _check_entry(entry, f"{file}: {split}[{number}]")
        name = content.get("name", Path(path).name)
        if name != Path(path).name:
            raise SiteDataError(
                f"{file}: the name is {name!r} and the folder's name is {Path(path).name!r}, "
                "expected them to be equal and to be the site's name in the federation; rename the folder or "
                "correct the file"
            )
        return cls(
            path=Path(path),
            name=name,
            hospital=str(content.get("hospital", name)),
            labels=_labels(content.get("labels"), file),
            splits=splits,
            modality=str(content.get("modality", "")),
            source=content.get("source", {}),
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
            {key: str(root / value) if key in _FILES else value for key, value in entry.items()}
            for entry in self.splits.get(split, ())
        ]

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
        if not _NAME.fullmatch(name):
            raise SiteDataError(
                f"{kind} name {name!r}: expected letters, digits, '.', '_' and '-' only, starting with a "
                "letter or digit, because it names a folder; correct the job"
            )
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


def _is_list(content: Mapping[str, Any], split: str, file: Path) -> bool:
    entries = content.get(split)
    if entries is not None and not isinstance(entries, list):
        raise SiteDataError(
            f"{file}: {split!r} is a {type(entries).__name__}, expected a list of cases; see docs/data.md"
        )
    return entries is not None


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str) or "patient" not in entry:
        found = sorted(entry) if isinstance(entry, dict) else entry
        raise SiteDataError(
            f'{where}: found {found}, expected an object with "image", "label" or "class", and "patient" '
            "(splits are by patient); add what is missing"
        )
    for key in _FILES:
        value = entry.get(key, "")
        if not isinstance(value, str) or PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
            raise SiteDataError(
                f"{where}: {key} is {value!r}, expected a path relative to the site folder that does not "
                "leave it; copy or link the file into the site folder"
            )


def _labels(content: Any, file: Path) -> dict[int, str]:
    try:
        labels = {int(value): str(name) for value, name in dict(content).items()}
    except (TypeError, ValueError):
        labels = {}
    if 0 not in labels:
        raise SiteDataError(
            f'{file}: "labels" is {content!r}, expected an object from label value to name with "0" for the '
            'background, as {"0": "background", "1": "prostate"}; correct it'
        )
    return dict(sorted(labels.items()))
