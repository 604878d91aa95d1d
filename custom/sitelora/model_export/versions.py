"""Exported bundles beside each other in one folder: which there are, which one of a line is served, and going back.

    iat_prostate_site-1_20261126_segmentation     a version, never changed
    iat_prostate_site-1_20261203_segmentation     the next one
    iat_prostate_site-1_segmentation              what is served: a copy of one of them

A viewer is given the name without a date. MONAI Label notices another model by the time of its file alone, so what is
served is always a new file with a later time. Needs no torch.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.disk import below
from sitelora.federation.files import make_private, new_file, write_json
from sitelora.metric import ABSENT
from sitelora.names import LETTERS

METADATA, MODEL, INFERENCE = "configs/metadata.json", "models/model.pt", "configs/inference.json"
LOGGING, CARD, LARGE, GOLDEN = "configs/logging.conf", "docs/README.md", "large_files.yml", "golden"
COPIED = ("LICENSE", LOGGING, "docs/data_license.txt")
"""What an export takes as it is from the installed bundle."""
_WRITTEN = frozenset({METADATA, MODEL, INFERENCE, CARD, LARGE, *COPIED})
_NAME, _DAY = re.compile(LETTERS), re.compile(r"\d{4}-\d{2}-\d{2}")
OURS, FROM = "sitelora", "served_from"
"""Keys in metadata.json: what is ours in it, and in that of a served copy the version that it is of."""


class VersionError(ValueError):
    """There is no such version; the message says which there are."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """An exported bundle.

    Attributes:
        folder: where it is. told: what is ours in its metadata. served_from: of a served copy its version's name.
    """

    folder: Path
    told: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def served_from(self) -> str:
        """Of a served copy the name of the version that it is of; empty of a version itself."""
        return str(self.told.get(FROM, ""))

    @property
    def served_as(self) -> str:
        """The name under which a version of this line is served."""
        return f"{self.told['line']}_{self.told['task']}"

    @property
    def model(self) -> Path:
        """The model's file."""
        return self.folder / MODEL

    @property
    def score_text(self) -> str:
        """Its score on its site's test cases, with the score's name."""
        score = self.told.get("score")
        return f"{self.told.get('score_name', '')} {score:.3f}" if isinstance(score, float) else ABSENT


def bundles_in(folder: Path) -> Iterator[Version]:
    """Yield the exported bundles in a folder, versions and served copies, by name.

    A bundle may come from elsewhere: one whose words about itself could not be an export's is none.
    """
    for path in sorted(folder.glob(f"*/{METADATA}")):
        try:
            told = json.loads(path.read_bytes()).get(OURS)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(told, Mapping) and _are_names(told) and not path.parts[-3].startswith("."):
            yield Version(folder=path.parent.parent, told=told)


def _are_names(told: Mapping[str, Any]) -> bool:
    """Say whether a bundle's words name a line, a task and a day: they become a folder's name."""
    expected = {"line": _NAME, "task": _NAME, "date": _DAY}
    return all(isinstance(told.get(key), str) and one.fullmatch(told[key]) for key, one in expected.items())


def files_of(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of a bundle that an export writes, and the names of others, which MONAI might act on.

    Hidden files (``.DS_Store``) are neither.
    """
    known, others = [], []
    for path in below(folder):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if path.is_symlink():
            others.append(f"{name} (a link)")
        elif path.is_file():
            golden = name.startswith(f"{GOLDEN}/") and name.endswith(VOLUMES + PICTURES + (".json", ".csv"))
            (known.append(path) if golden or name in _WRITTEN else others.append(name))
    return known, others


def versions_in(folder: Path) -> list[Version]:
    """Return the versions in a folder, line by line, the oldest first."""
    found = [each for each in bundles_in(folder) if not each.served_from]
    return sorted(found, key=lambda each: (each.told["line"], each.told["date"], len(each.name), each.name))


def served_in(folder: Path) -> dict[str, Version]:
    """Return what is served from a folder, by the name that a viewer is given."""
    return {each.name: each for each in bundles_in(folder) if each.served_from}


def new_name(folder: Path, line: str, date: str, task: str) -> str:
    """Return a name for one more version; a second one of a day gets a number."""
    day, number = date.replace("-", ""), 1
    while (folder / (name := f"{line}_{day}{f'-{number}' * (number > 1)}_{task}")).exists():
        number += 1
    return name


def serve(folder: Path, name: str) -> tuple[Version, bool]:
    """Make a version what is served of its line.

    Args:
        folder: of the versions. name: of the version.

    Returns:
        The served copy, and whether a running MONAI Label has to be started anew: it reads all but the model once.

    Raises:
        VersionError: no such version.
        DiskError: it cannot be written.
    """
    versions = {each.name: each for each in versions_in(folder)}
    if name not in versions:
        listed = ", ".join(versions) or "none"
        raise VersionError(f"no version is called {name!r} in {folder}; there are: {listed}")
    version = versions[name]
    place = folder / version.served_as
    if place.is_symlink():
        raise VersionError(f"{place} is a link, expected a folder that only `sitelora models` writes; remove it")
    files, _ = files_of(version.folder)
    restart = _text(place / INFERENCE) not in (None, _text(version.folder / INFERENCE))
    before = (place / MODEL).stat().st_mtime_ns if (place / MODEL).is_file() else 0
    for source in sorted(files, key=lambda path: path == version.model):
        if source != version.folder / METADATA:
            with new_file(place / source.relative_to(version.folder), needs=source.stat().st_size) as temporary:
                shutil.copyfile(source, temporary)
                now = max(time.time_ns(), before + 1_000_000_000)  # never the time of the file that was served before
                os.utime(temporary, ns=(now, now))
    metadata = json.loads((version.folder / METADATA).read_bytes())
    write_json(place / METADATA, {**metadata, OURS: {**metadata[OURS], FROM: name}})
    make_private(place)
    return Version(folder=place, told={**version.told, FROM: name}), restart


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None
