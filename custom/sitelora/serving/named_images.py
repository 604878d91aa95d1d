"""Which images a person means who names files and folders: nothing that she means is passed over without a word."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.errors import first_few
from sitelora.data.site_folder import DATALIST
from sitelora.disk import GIVE_RIGHT

_IMAGES = "images"
_BESIDE = (".json", ".csv", ".tsv", ".txt", ".md", ".rst", ".yaml", ".yml", ".bval", ".bvec", ".log")
_BESIDE_NAMES = ("README", "LICENSE", "CHANGES", "CITATION", "THUMBS.DB", "DESKTOP.INI")
"""What lies beside images as a matter of course."""
_DICOM = (".dcm", ".dicom", ".ima")
_LONGEST_ENDING = 6
"""Characters; what is longer, or a number, is a part of a name: DICOM files are called by numbers with dots."""


class CallError(ValueError):
    """Nothing can be predicted as it was asked for; the message says what to do instead."""


@dataclass(frozen=True, kw_only=True)
class NamedImages:
    """What a call means.

    Attributes:
        places: every image once, in their order, each with the empty text; among them folders that cannot be looked
            into, with the reason. left_out: how many files that are no image lie in the folders, by kind.
    """

    places: Mapping[Path, str]
    left_out: Mapping[str, int]

    @property
    def told(self) -> str:
        """What is to be said of the files that are left out; empty where there is none."""
        if not self.left_out:
            return ""
        count = sum(self.left_out.values())
        return (
            f"{count} other file{'' if count == 1 else 's'} left out: {_listed(self.left_out)}; only "
            f"{', '.join(VOLUMES + PICTURES)} are predicted, so convert what is an image"
        )


def named_images(named: Sequence[Path], *, out: Path) -> NamedImages:
    """Return what a person means: files as they are, folders with all images below them.

    Args:
        named: files and folders; of every site folder at or below one its ``images``.
        out: where predictions go, which is passed over below a folder.

    Raises:
        CallError: a folder without an image, or one that is the output folder.
    """
    meant: dict[Path, tuple[Path, str]] = {}
    left_out: Counter[str] = Counter()
    for one in named:
        if not os.path.isdir(one):
            meant.setdefault(_real(one), (one, ""))
            continue
        if _real(one) == _real(out):
            raise CallError(f"{one} is where the predictions go: name another folder with --out")
        found, others = dict[Path, str](), Counter[str]()
        for path, why in _below(one, out):
            kind = _kind(path)
            if why or kind is None:
                found[path] = why
            elif kind:
                others[kind] += 1
        if not found:
            endings = ", ".join(VOLUMES + PICTURES)
            there = f" (it holds {_listed(_most_first(others))})" if others else ""
            raise CallError(f"{one} holds no file that ends in {endings}{there}: name a folder of images, or the files")
        for path in sorted(found):
            meant.setdefault(_real(path), (path, found[path]))
        left_out += others
    return NamedImages(places=dict(meant.values()), left_out=_most_first(left_out))


def _below(folder: Path, out: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files below a folder, and what cannot be looked into with the reason; nothing hidden."""
    if _real(folder) == _real(out):
        return
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        here = Path(place)
        if DATALIST in files:
            images, there = here / _IMAGES, _IMAGES in folders
            folders[:], files = [], []
            if there:
                yield from _below(images, out)
            else:
                yield here, f"found {DATALIST} and no {_IMAGES}/ beside it, expected a site folder; name its images"
        folders[:] = [name for name in folders if not name.startswith(".") and _real(here / name) != _real(out)]
        for name in files:
            if not name.startswith("."):
                yield here / name, ""
    for error in closed:
        reason = error.strerror or str(error)
        yield Path(error.filename), f"found a folder that cannot be read ({reason}), expected images; {GIVE_RIGHT}"


def _kind(path: Path) -> str | None:
    """Return what kind of other file one is: None of an image, the empty text of what is not worth a word."""
    name, ending = path.name.lower(), path.suffix.lower()
    if name.endswith(VOLUMES + PICTURES):
        return None
    if ending in _BESIDE or path.stem.upper() in _BESIDE_NAMES or path.name.upper() in _BESIDE_NAMES:
        return ""
    if ending in _DICOM or (path.is_file() and _begins_as_dicom(path)):
        return "DICOM"
    return ending if 1 < len(ending) <= _LONGEST_ENDING and not ending[1:].isdigit() else "without an ending"


def _begins_as_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _most_first(kinds: Counter[str]) -> dict[str, int]:
    return dict(sorted(kinds.items(), key=lambda one: (-one[1], one[0])))


def _listed(kinds: Mapping[str, int]) -> str:
    return first_few([f"{count} {kind}" for kind, count in kinds.items()])


def _real(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))
