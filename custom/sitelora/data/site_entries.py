"""The cases and labels that ``dataset.json`` lists: what each must hold, said for the key that does not."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.errors import SiteDataError, first_few
from sitelora.disk import GIVE_RIGHT, NOT_READABLE
from sitelora.value_kinds import did_you_mean, short, strict_json

FILES = ("image", "label")
DASHES = "\u2212\u2043\u02d7"
"""Signs that look like a hyphen and are of no class of dashes: minus, hyphen bullet, modifier minus."""
LONGEST_LABEL, LONGEST_HOSPITAL = 80, 200
"""Letters of the names that a site tells the others (``federation/reports.py``), printable ones."""


def read_list(file: Path) -> Any:
    """Return the content of a JSON file, with or without a byte order mark, UTF-8 or UTF-16.

    Raises:
        SiteDataError: unreadable, no JSON, or one key twice in an object (Python would keep the last without a word).
    """
    try:
        return strict_json(file.read_bytes())
    except PermissionError as error:
        raise SiteDataError(f"{file}: found {NOT_READABLE}, expected JSON; {GIVE_RIGHT}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SiteDataError(f"{file}: not readable as JSON ({error}); correct or regenerate it") from error


def check_keys(content: Mapping[str, Any], splits: Collection[str], known: Collection[str], file: Path) -> None:
    """Refuse a list of cases under a key that nobody reads, a misspelt split above all: they would not be there.

    Args:
        content: of ``dataset.json``. splits: keys of the lists that are read. known: other keys. file: for messages.

    Raises:
        SiteDataError: names the key, and the split that may be meant.
    """
    for key, value in content.items():
        if key in splits or key in known or not isinstance(value, list):
            continue
        near = _near(key, splits)
        if any(_is_case(one, near=bool(near)) for one in value):
            raise SiteDataError(
                f"{file}: found {len(value)} case(s) under {short(key)}, expected all under {', '.join(splits)}{near}; "
                "rename the key, or take the list out of the file"
            )


def _near(key: str, splits: Collection[str]) -> str:
    """Return what a key may be meant for, "val" and "Test" too."""
    plain = key.strip().casefold()
    begun = [split for split in splits if len(plain) > 1 and split.startswith(plain)]
    return did_you_mean(begun[0] if begun else plain, splits)


def _is_case(one: Any, *, near: bool) -> bool:
    """Say whether something in a list is a case; a file's name alone is one where the key is nearly that of a split."""
    if isinstance(one, Mapping):
        return any(key.strip().casefold() == "image" or _is_case(value, near=True) for key, value in one.items())
    return near and isinstance(one, str) and one.lower().endswith(VOLUMES + PICTURES)


def text_of(content: Mapping[str, Any], key: str, default: str, file: Path) -> str:
    """Return what stands under a key that is told in reports.

    Raises:
        SiteDataError: it is no text.
    """
    value = content.get(key, default)
    if not isinstance(value, str):
        raise SiteDataError(
            f"{file}: {key} is {_kind(value)} {_short(value)}, expected a text, as the project's report shows it; "
            "write one, or leave the key out"
        )
    return value


def check_entry(entry: Any, where: str) -> None:
    """Refuse a case that lacks something or holds it in another form.

    Raises:
        SiteDataError: says which key, what it is and what it should be.
    """
    if not isinstance(entry, dict):
        raise SiteDataError(
            f"{where}: found {_kind(entry)} {_short(entry)}, expected an object as "
            '{"image": "images/a.nii.gz", "label": "labels/a.nii.gz", "patient": "P-1"}; write it so'
        )
    missing = [key for key in ("image", "patient") if key not in entry]
    if missing:
        raise SiteDataError(
            f'{where}: found no {" and no ".join(missing)} in {sorted(entry)}, expected "image", "label" or "class", '
            'and "patient" (splits are by patient); add what is missing'
        )
    for key in FILES:
        if key in entry:
            _check_path(key, entry[key], where)
    if "label" in entry and entry["label"] == entry["image"]:
        raise SiteDataError(f"{where}: image and label are one file, {entry['image']!r}; name the mask as label")
    patient = entry["patient"]
    if isinstance(patient, bool) or not isinstance(patient, (str, int)) or not str(patient).strip():
        raise SiteDataError(
            f"{where}: patient is {_kind(patient)} {_short(patient)}, expected a pseudonym, a text that is not "
            "empty or a whole number; give every patient one"
        )
    require_utf8("patient", str(patient), where)


def check_labels(content: Any, file: Path) -> dict[int, str]:
    """Return the label values and names of ``dataset.json``, sorted by value.

    Raises:
        SiteDataError: no object from whole numbers to names with 0 in it, or a value or name twice.
    """
    where = f'{file}: "labels" is {_short(content)}'
    example = 'as {"0": "background", "1": "prostate"}; correct it'
    items = list(content.items()) if isinstance(content, dict) else []
    try:
        values = [int(value) for value, _ in items]
    except ValueError:
        values = []
    if 0 not in values or not all(isinstance(name, str) and name.strip() for _, name in items):
        raise SiteDataError(
            f'{where}, expected an object from label value to name with "0" for the background or the first class, '
            f"{example}"
        )
    for _, name in items:
        require_tellable("a label's name", name, LONGEST_LABEL, file)
    twice = [f"value {value}" for value, count in Counter(values).items() if count > 1]
    names = Counter(label_key(name) for _, name in items)
    twice += [f"name {name!r}" for name, count in names.items() if count > 1]
    if twice:
        raise SiteDataError(
            f"{where}: {first_few(twice)} stands there twice, expected every value and name once; correct it"
        )
    return dict(sorted(zip(values, (name for _, name in items), strict=True)))


def patient_key(patient: Any) -> str:
    """Return a patient's pseudonym as it is compared: without regard to case, blanks and forms of characters.

    Letters that cannot be seen (a byte order mark, a soft hyphen) are none, and every dash is a hyphen.
    """
    seen = [each for each in unicodedata.normalize("NFKC", str(patient)) if unicodedata.category(each) != "Cf"]
    plain = "".join("-" if each in DASHES or unicodedata.category(each) == "Pd" else each for each in seen)
    return label_key(plain)


def label_key(name: str) -> str:
    """Return a label's name as it is compared between sites and with a job: without regard to case and blanks."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def labels_key(labels: Mapping[Any, Any]) -> dict[str, str]:
    """Return label values and names as they are compared, whether the values are numbers or their texts."""
    return {str(value): label_key(str(name)) for value, name in labels.items()}


def require_tellable(what: str, text: str, longest: int, file: Path) -> None:
    """Refuse a text that no report takes, before anything is trained.

    Raises:
        SiteDataError: it is too long, or holds line ends or other characters that cannot be seen.
    """
    if len(text) > longest or not text.isprintable():
        raise SiteDataError(
            f"{file}: {what} is {_short(text)}, {len(text)} characters; expected a printable text of at most {longest} "
            "without line ends, as the project's report shows it; shorten it"
        )


def _check_path(key: str, value: Any, where: str) -> None:
    if not isinstance(value, str):
        several = "; several channels belong into one file, several cases into several entries"
        raise SiteDataError(
            f"{where}: {key} is {_kind(value)} {_short(value)}, expected one path, a text"
            f"{several if isinstance(value, list) else ''}"
        )
    require_utf8(key, value, where)
    path = PurePosixPath(value)
    if not value.strip() or "\0" in value or path.is_absolute() or ".." in path.parts:
        raise SiteDataError(
            f"{where}: {key} is {value!r}, expected a path relative to the site folder that does not "
            "leave it; copy or link the file into the site folder"
        )


def require_utf8(key: str, value: str, where: str) -> None:
    """Refuse a text that no file and no report can hold, as a name on disk in another encoding becomes.

    Raises:
        SiteDataError: says which.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SiteDataError(
            f"{where}: {key} is {value!a}, a text that UTF-8 cannot hold; give the file another name, and write "
            "that in the list"
        ) from error


def _kind(value: Any) -> str:
    names: Mapping[type, str] = {list: "a list,", dict: "an object,", str: "a text,", bool: "a truth value,"}
    return "nothing," if value is None else names.get(type(value), f"a {type(value).__name__},")


def _short(value: Any, most: int = 120) -> str:
    text = json.dumps(value, ensure_ascii=not str(value).isprintable(), default=str)
    return text if len(text) <= most else f"{text[:most]}..."
