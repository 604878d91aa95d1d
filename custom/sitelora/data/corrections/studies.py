"""The final labels of a MONAI Label studies folder, each with its image; what has none, or lies elsewhere, is refused.

Label keeps ``<id>.nii.gz`` beside ``labels/final/<id>.nii.gz`` and lists both in ``datastore_v2.json``. It takes any
file as a label and any text as an id, so a name is judged before anything of that name is opened.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sitelora.data.endings import PICTURES, VOLUMES, stem
from sitelora.data.errors import SiteDataError, first_few

LIST, FINAL = "datastore_v2.json", "final"
_LAYOUT = "a studies folder of MONAI Label: images, labels/final/<image> and, as a rule, datastore_v2.json"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A label, or a name in the list, that cannot be taken.

    Attributes:
        name: as it stands in the studies folder. why: found, expected, what to do.
    """

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Final:
    """A final label.

    Attributes:
        name: of the label within ``labels/final``. id: what Label calls the image, its name without ending.
        label, image: the files.
    """

    name: str
    id: str
    label: Path
    image: Path


@dataclass(frozen=True, kw_only=True)
class Studies:
    """What a studies folder holds.

    Attributes:
        finals: labels with their images. refused: the others. unlabelled: images that nobody has finished.
    """

    finals: tuple[Final, ...]
    refused: tuple[Refused, ...]
    unlabelled: int


def read_studies(source: Path | None) -> Studies:
    """Find the final labels of a studies folder; no image is opened.

    Raises:
        SiteDataError: no folder, or none with a final label.
    """
    if source is None or not Path(source).is_dir():
        found = "no source" if source is None else f"no folder {source}"
        raise SiteDataError(f"monailabel: {found}; expected --source DIR, {_LAYOUT}")
    listed, refused = _listed(Path(source))
    images = _by_id(Path(source))
    labels = {path.name: path for path in _files(Path(source) / "labels" / FINAL)}
    times = Counter(stem(path) for path in labels.values())
    refused += [
        Refused(name=name, why=f"{LIST} lists it as final and there is no such file; submit it again, or take it out")
        for name in sorted(listed - labels.keys())
    ]
    finals = []
    for name, path in labels.items():
        own = images.get(stem(path), [])
        if times[stem(path)] > 1:
            why = f"found {times[stem(path)]} final labels of one image, expected one; keep the right one"
            refused.append(Refused(name=name, why=why))
            continue
        if len(own) == 1:
            finals.append(Final(name=name, id=stem(path), label=path, image=own[0]))
            continue
        found = f"{first_few([image.name for image in own])} beside each other" if own else "a label without image"
        remedy = "keep one of them" if own else f"put its image back as {stem(path)}.nii.gz, or remove the label"
        refused.append(Refused(name=name, why=f"found {found}, expected one image {stem(path)} in {source}; {remedy}"))
    if not finals and not refused:
        raise SiteDataError(f"monailabel: {source} holds no file in labels/{FINAL}; expected {_LAYOUT}")
    done = {stem(path) for path in labels.values()}
    return Studies(finals=tuple(finals), refused=tuple(refused), unlabelled=len(images.keys() - done))


def _by_id(source: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _files(source):
        if path.name.lower().endswith(VOLUMES + PICTURES):
            found.setdefault(stem(path), []).append(path)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.name.startswith(".") and not path.is_dir():
            yield path


def _listed(source: Path) -> tuple[set[str], list[Refused]]:
    """Return the names of the labels that Label lists as final, and what of the list is refused."""
    file = source / LIST
    if not file.exists():
        return set(), []
    try:
        content = json.loads(file.read_bytes())
        objects = content["objects"]
        items = list(objects.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"not readable as MONAI Label's list ({error!r:.80}); the files in labels/{FINAL} are taken as they lie"
        return set(), [Refused(name=LIST, why=why)]
    listed, refused = set(), []
    for id, told in items:
        pure = PurePosixPath(id)
        if pure.is_absolute() or len(pure.parts) != 1 or pure.parts[0] == ".." or "\\" in id or "\0" in id:
            why = f"{LIST} lists an image of the name {id!r:.120}, expected a plain file name; it was not opened. Look "
            refused.append(Refused(name=repr(id)[:120], why=f"{why}who put it there, and remove it from the list"))
        elif (ending := _ending(told)) is not None:
            listed.add(f"{id}{ending}")
    return listed, refused


def _ending(told: Any) -> str | None:
    """Return the ending of an image's final label in Label's list, or None where it has none."""
    labels = told.get("labels") if isinstance(told, Mapping) else None
    final = labels.get(FINAL) if isinstance(labels, Mapping) else None
    return str(final.get("ext", "")) if isinstance(final, Mapping) else None
