"""What every converter of a public dataset needs: its source folders, known sites, masks as label values."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from sitelora.data.reading import Pixels, read_pixels
from sitelora.data.site_folder import SiteDataError, first_few
from sitelora.seeding import derive_seed

_log = logging.getLogger(__name__)


def choose_sites(wanted: Sequence[str] | None, known: Collection[str], dataset: str) -> tuple[str, ...]:
    """Return the wanted sites, all known ones for ``None``.

    Raises:
        SiteDataError: a wanted site is not known.
    """
    chosen = tuple(known if wanted is None else wanted)
    unknown = [site for site in chosen if site not in known]
    if unknown:
        raise SiteDataError(f"{dataset}: found site(s) {', '.join(unknown)}, expected some of {', '.join(known)}")
    return chosen


def source_folder(source: Path | None, *, dataset: str, expected: str) -> Path:
    """Return the folder of the public release.

    Raises:
        SiteDataError: none was given, or it does not exist.
    """
    if source is None or not Path(source).is_dir():
        found = "no source" if source is None else f"no folder {source}"
        raise SiteDataError(f"{dataset}: {found}; expected --source DIR with {expected}")
    return Path(source)


def find_sources(source: Path | None, folders: Mapping[str, str], *, dataset: str, layout: str) -> dict[str, Path]:
    """Return the folder of every site below ``source``; upper and lower case make no difference.

    Args:
        source: the unpacked public release.
        folders: site to the name of its folder.
        dataset: for messages.
        layout: what a site's folder holds, for messages.

    Raises:
        SiteDataError: no source, or it lacks a site's folder.
    """
    expected = f"the folders {', '.join(folders.values())}, each with {layout}"
    source = source_folder(source, dataset=dataset, expected=expected)
    present = {path.name.casefold(): path for path in sorted(source.iterdir()) if path.is_dir()}
    missing = [name for name in folders.values() if name.casefold() not in present]
    if missing:
        names = ", ".join(path.name for path in present.values()) or "no folder"
        raise SiteDataError(
            f"{dataset}: {source} lacks {', '.join(missing)} (found: {names}); expected {expected}. "
            "Unpack the whole release there, or name only the sites that you have"
        )
    return {site: present[name.casefold()] for site, name in folders.items()}


def read_table(path: Path, columns: Collection[str], *, layout: str) -> list[dict[str, str]]:
    """Return the rows of a release's CSV file.

    Args:
        path: the file. columns: those it must have. layout: what the folder holds, for messages.

    Raises:
        SiteDataError: no file, or a column is missing.
    """
    if not path.is_file():
        raise SiteDataError(f"{path.parent}: no {path.name}, expected {layout}; complete the folder from the release")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        rows = list(reader)
    if not set(reader.fieldnames or ()) >= set(columns):
        raise SiteDataError(f"{path}: found the columns {reader.fieldnames}, expected {sorted(columns)}")
    return rows


def require_files(folder: Path, files: Sequence[Path], *, table: str, none: str, layout: str) -> None:
    """Refuse a release that names files which it lacks, or names none.

    Args:
        folder: of the release. files: what it names. table: where it names them.
        none: what to say when nothing is named. layout: what the folder holds, for messages.

    Raises:
        SiteDataError: a file is missing, or there are none.
    """
    missing = [str(path.relative_to(folder)) for path in files if not path.is_file()]
    if missing or not files:
        found = f"{len(missing)} missing file(s) that {table} names: {first_few(missing)}" if missing else none
        raise SiteDataError(f"{folder}: found {found}, expected {layout}; complete the folder from the release")


def relabel(path: Path, mapping: Mapping[int, int]) -> Pixels:
    """Read a mask and return it with other label values, uint8.

    Args:
        path: the mask.
        mapping: value in the file to label value.

    Raises:
        SiteDataError: the mask is unreadable or holds a value that ``mapping`` lacks.
    """
    mask = read_pixels(path)
    return Pixels(values=relabelled(mask.values, mapping, path), affine=mask.affine)


def relabelled(mask: np.ndarray, mapping: Mapping[int, int], path: Path) -> np.ndarray:
    """Return a mask that has been read with other label values, uint8; as for ``relabel``."""
    values, inverse = np.unique(mask, return_inverse=True)
    unknown = [f"{float(value):g}" for value in values if value not in mapping]
    if unknown:
        raise SiteDataError(
            f"{path}: found value(s) {first_few(unknown)}, expected only {sorted(mapping)}; is it a mask?"
        )
    table = np.array([mapping[int(value)] for value in values], np.uint8)
    return table[inverse].reshape(mask.shape)


def read_rgb(picture: Path) -> np.ndarray:
    """Return a picture ``[H, W, 3]``, uint8.

    Raises:
        SiteDataError: it is unreadable or not 8-bit RGB.
    """
    values = read_pixels(picture).values
    if values.shape[2:] != (3,) or values.dtype != "uint8":
        found = f"shape {values.shape} of {values.dtype}"
        raise SiteDataError(f"{picture}: found {found}, expected [H, W, 3] of uint8; export it as 8-bit RGB")
    return values


def repeated(images: Sequence[Path], *, dataset: str) -> dict[str, str]:
    """Return the name of every picture that is the same as one before it, with the name of that one, and log it.

    Raises:
        SiteDataError: a picture is unreadable or not 8-bit RGB.
    """
    first: dict[str, str] = {}
    repeats: dict[str, str] = {}
    for image in images:
        values = read_rgb(image)
        kept = first.setdefault(hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest(), image.name)
        if kept != image.name:
            repeats[image.name] = kept
            _log.info("%s: %s is left out, it is the same picture as %s", dataset, image.name, kept)
    return repeats


def split_by_hash(dataset: str, site: str, what: str) -> str:
    """Return the split of a patient or a picture: about 60 % training, 10 % validation, 30 % test.

    By a hash of the names, so that a case which is added later moves no other.
    """
    place = derive_seed(dataset, site, what) / 2**63
    return "training" if place < 0.6 else "validation" if place < 0.6 + 0.1 else "test"
