"""What a report may hold: known keys, finite numbers, short printable texts, at most two levels.

A schema is a value that both ends hold: the site's exit refuses a report that does not fit, and the server rejects it
again. Nothing here looks deeper than two levels, so a value nested a thousand times is refused like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

LONGEST_TEXT = 200
FEW = 64
"""How many entries a table has at most, unless it says otherwise."""


class SchemaError(ValueError):
    """A report that holds something else than its schema says."""


class Kind(Protocol):
    """What one value may be."""

    def read(self, value: object) -> Any:
        """Return the value as plain JSON.

        Raises:
            SchemaError: it is something else; what was found and expected.
        """


@dataclass(frozen=True, kw_only=True)
class Number:
    """A finite number.

    Args:
        lowest, highest: bounds, included. whole: no fractions. or_none: None is a value too.
    """

    lowest: float = -1e30
    highest: float = 1e30
    whole: bool = False
    or_none: bool = False

    def read(self, value: object) -> int | float | None:
        """Return the number."""
        if value is None and self.or_none:
            return None
        kinds = int if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not self.lowest <= value <= self.highest:
            what = "a whole number" if self.whole else "a finite number"
            raise SchemaError(f"found {_shown(value)}, expected {what} from {self.lowest:g} to {self.highest:g}")
        return int(value) if isinstance(value, int) else float(value)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A short text of printable characters.

    Args:
        longest: number of characters. pattern: that the whole text must match. or_none: None is a value too.
    """

    longest: int = LONGEST_TEXT
    pattern: str = ""
    or_none: bool = False

    def read(self, value: object) -> str | None:
        """Return the text."""
        if value is None and self.or_none:
            return None
        if not isinstance(value, str) or len(value) > self.longest or not value.isprintable():
            raise SchemaError(f"found {_shown(value)}, expected a printable text of at most {self.longest} characters")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise SchemaError(f"found {_shown(value)}, expected a text like {self.pattern}")
        return str(value)


HEX = Text(longest=64, pattern="[0-9a-f]{64}")
"""A sha256 or an HMAC."""


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def read(self, value: object) -> bool:
        """Return it."""
        if not isinstance(value, bool):
            raise SchemaError(f"found {_shown(value)}, expected true or false")
        return value


@dataclass(frozen=True)
class Either:
    """A value of one of several kinds."""

    kinds: tuple[Kind, ...]

    def read(self, value: object) -> Any:
        """Return the value as the first kind that takes it has it."""
        problems = []
        for kind in self.kinds:
            try:
                return kind.read(value)
            except SchemaError as error:
                problems.append(str(error))
        raise SchemaError(" or ".join(problems))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A list of one kind.

    Args:
        of: kind of its entries. longest: number of entries.
    """

    of: Kind
    longest: int

    def read(self, value: object) -> list[Any]:
        """Return the list."""
        if not isinstance(value, list) or len(value) > self.longest:
            raise SchemaError(f"found {_shown(value)}, expected a list of at most {self.longest} entries")
        return [_read(self.of, inner, f"[{number}]") for number, inner in enumerate(value)]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Values of one kind by key.

    Args:
        of: kind of the values. keys: those that are known, all of which must be there where it is complete;
            or else pattern: that every key matches, and most: how many there are at most.
    """

    of: Kind
    keys: tuple[str, ...] = ()
    pattern: str = ""
    most: int = FEW
    complete: bool = False

    def read(self, value: object) -> dict[str, Any]:
        """Return the table."""
        if not isinstance(value, Mapping) or len(value) > self.most:
            raise SchemaError(f"found {_shown(value)}, expected names and values, at most {self.most}")
        for key in value:
            if not isinstance(key, str) or not (re.fullmatch(self.pattern, key) if self.pattern else key in self.keys):
                known = f"a name like {self.pattern}" if self.pattern else f"one of {', '.join(self.keys)}"
                raise SchemaError(f"found the key {_key(key)}, expected {known}")
        absent = [key for key in self.keys if key not in value] if self.complete else []
        if absent:
            raise SchemaError(f"{absent[0]} is missing, expected {', '.join(self.keys)}")
        return {str(key): _read(self.of, inner, f".{key}") for key, inner in value.items()}


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Of one kind of report.

    Args:
        required: kinds by key. optional: of keys that may be absent.
    """

    required: Mapping[str, Kind]
    optional: Mapping[str, Kind] = field(default_factory=dict)

    def read(self, report: object, *, sender: str) -> dict[str, Any]:
        """Return a report as plain JSON, all of it checked.

        Raises:
            SchemaError: with the sender and the field; what was found and expected.
        """
        if not isinstance(report, Mapping):
            raise SchemaError(f"{sender}: its report: found {_shown(report)}, expected an object")
        kinds = {**self.required, **self.optional}
        strangers = [key for key in report if key not in kinds]
        missing = [key for key in self.required if key not in report]
        if strangers:
            raise SchemaError(f"{sender}: its report: unknown key {_key(strangers[0])}, known: {', '.join(kinds)}")
        if missing:
            raise SchemaError(f"{sender}: its report: {missing[0]} is missing")
        return {key: _read(kinds[key], report[key], f"{sender}: its report: {key}") for key in kinds if key in report}


def _read(kind: Kind, value: object, where: str) -> Any:
    try:
        return kind.read(value)
    except SchemaError as error:
        inner = str(error)
        raise SchemaError(f"{where}{'' if inner.startswith(('.', '[')) else ': '}{inner}") from None


def _key(key: object) -> str:
    """Return a key if it reads like one, so that it can be mended; otherwise only how long it is."""
    return key if isinstance(key, str) and re.fullmatch(r"\w{1,40}", key, re.ASCII) else _shown(key)


def _shown(value: object) -> str:
    """Return a value in a few characters, whatever it is; a text is never repeated: this may end in a record."""
    if value is None or isinstance(value, bool | int | float):
        plain = repr(value) if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
        return plain if not isinstance(value, float) or math.isfinite(value) else str(value)
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, Mapping | list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
