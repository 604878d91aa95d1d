"""The table that says whose images are, as people and their spreadsheets write one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from sitelora.data.case_names import folded
from sitelora.data.endings import stem
from sitelora.data.errors import SiteDataError
from sitelora.data.site_entries import patient_key

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_COLUMNS = ("image", "patient")
_WANTED = "expected the columns image,patient in line 1, separated by commas, semicolons or tabs"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def image_key(path: Path) -> str:
    """Return an image's name as the table of patients is asked for it: without ending, case and forms of characters."""
    return folded(stem(path))


def read_patients(file: Path | None) -> dict[str, str]:
    """Return the patient of every image that a CSV file with the columns ``image`` and ``patient`` names.

    Separated by commas, semicolons or tabs, in UTF-8 with or without a byte order mark or in UTF-16 with one. Blanks
    around a name are none of it.

    Raises:
        SiteDataError: no such file, another encoding, other columns, an image with two patients, or two patients whose
            names differ in nothing that ``dataset.json`` tells patients by.
    """
    if file is None:
        return {}
    found: dict[str, str] = {}
    written: dict[str, tuple[str, int]] = {}
    for number, image, patient in _rows(Path(file)):
        if found.setdefault(image_key(Path(image)), patient) != patient:
            raise SiteDataError(f"{file}, line {number}: {image} has two patients, expected one; correct it")
        name, line = written.setdefault(patient_key(patient), (patient, number))
        if name != patient:
            raise SiteDataError(
                f"{file}, line {number}: found the patient {patient!r}, and {name!r} in line {line}, which differ in "
                "the case of letters or the form of signs alone; expected one name a patient: write it in one way, or "
                "give two patients names that differ in more"
            )
    return found


def _rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, image and patient of every row that is not blank.

    Raises:
        SiteDataError: the table cannot be read, or a row says something else than one image and one patient.
    """
    text = _text(file)
    tables = [csv.reader(StringIO(text, newline=""), delimiter=one, skipinitialspace=True) for one in SEPARATORS]
    try:
        heads = [[name.strip() for name in next(table, [])] for table in tables]
        written, table, separated = max(
            zip(heads, tables, SEPARATORS.values(), strict=True), key=lambda one: len(one[0])
        )
        columns = [name.casefold() for name in written]
        if not set(_COLUMNS) <= set(columns):
            raise SiteDataError(f"{file}: found the columns {', '.join(written) or 'none'}, {_WANTED}; correct it")
        if any(columns.count(name) > 1 for name in _COLUMNS):
            raise SiteDataError(f"{file}: found the columns {', '.join(written)}, expected every one once; remove one")
        for number, cells in ((table.line_num, [cell.strip() for cell in row]) for row in table):
            if not any(cells):
                continue
            if len(cells) > len(columns) and any(cells[len(columns) :]):
                raise SiteDataError(
                    f"{file}, line {number}: found {len(cells)} cells, expected {len(columns)}, separated by "
                    f"{separated}; put a name that holds one in quotation marks"
                )
            named = dict(zip(columns, cells, strict=False))
            if not all(named.get(name) for name in _COLUMNS):
                raise SiteDataError(f"{file}, line {number}: expected an image and a patient, columns image,patient")
            yield number, named["image"], named["patient"]
    except csv.Error as error:
        raise SiteDataError(f"{file}: not readable as CSV ({error}); {_WANTED}") from error


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
        return content.decode("utf-16" if content.startswith(_UTF_16) else "utf-8-sig")
    except OSError as error:
        raise SiteDataError(f"{file}: not readable as CSV ({error}); {_WANTED}") from error
    except UnicodeDecodeError as error:
        raise SiteDataError(
            f"{file}: found a text in another encoding ({error.reason} at byte {error.start}), expected UTF-8, or "
            "UTF-16 with a byte order mark; save it anew, as Excel does by the name of CSV UTF-8"
        ) from error
