"""The TOML files of a comparison, read strictly: nothing unknown, nothing of another type."""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from sitelora.typed_json import from_json

T = TypeVar("T")


class DataFileError(ValueError):
    """A setup or a claim that cannot be read; the message says file, key, what was found and what was expected."""


def read_toml(kind: type[T], file: Traversable | Path) -> T:
    """Return a file as a dataclass.

    Raises:
        DataFileError: it cannot be read, is no TOML, or says something else than the dataclass does.
    """
    try:
        return from_json(kind, tomllib.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError) as error:
        raise DataFileError(f"{file}: {error}") from error
