"""What one setting may be: its type, its range or its choices. One judge for bundles and for methods' arguments.

A method says it in its signature (``rank: Annotated[int, Range(1, 256)]``), a bundle in its ``configs/settings.json``.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

LONGEST_TEXT, LONGEST_KEY, DEEPEST = 1024, 100, 8
LARGEST = 1e300
"""Of any number; not a number and infinity are neither above nor below it."""
CODE = ("$", "@", "%")
"""How a string begins that MONAI would evaluate, look up or read from another file."""


class SettingsError(ValueError):
    """A setting that does not exist, or a value that it may not have; the message says what fits."""


def key_value(text: str) -> tuple[str, Any] | None:
    """Return key and value of a typed ``key=value``, read as JSON or, where it is none, as plain text.

    ``None`` without ``=`` or key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        return None
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return key.strip(), value


def strict_json(data: bytes | str, *, finite: bool = False) -> Any:
    """Return what JSON says, with or without a byte order mark.

    Args:
        finite: refuse numbers that are none, or too large to be any: they would read as no limit.

    Raises:
        ValueError: no JSON, or one key twice in an object, or such a number. RecursionError: too deep.
    """
    hooks: dict[str, Any] = {"parse_constant": _finite, "parse_float": _finite} if finite else {}
    if isinstance(data, str):
        data = data.removeprefix("\ufeff")
    return json.loads(data, object_pairs_hook=_each_once, **hooks)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(names) if key in names[:place])
        raise ValueError(f"it says {short(twice)} twice, expected every key once; remove one")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"found the number {text}, expected one that is finite")
    return number


def require_choices(where: str, **given: tuple[object, Iterable[object]]) -> None:
    """Refuse an argument that is none of its choices, where a function is called by itself and no settings judge it.

    Args:
        where: at the head of the message. given: by the argument's name, its value and what it may be.

    Raises:
        ValueError: names the first that is not.
    """
    for argument, (value, choices) in given.items():
        allowed = tuple(choices)
        if value not in allowed:
            raise ValueError(f"{where}: {argument} is {value!r}; expected one of {allowed}")


@dataclass(frozen=True)
class Range:
    """Numbers from ``least`` to ``most``; with ``above`` without ``least`` itself."""

    least: float
    most: float
    above: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float):
            return False
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def __str__(self) -> str:
        least, most = (f"{value}" if isinstance(value, int) else f"{value:g}" for value in (self.least, self.most))
        return f"above {least}, at most {most}" if self.above else f"{least} to {most}"


class Choices(tuple[str, ...]):
    """The texts that an argument may be: ``Annotated[str, Choices(("shared", "local"))]``."""


Rank = Annotated[int, Range(1, 256)]
Scale = Annotated[float, Range(0, 1000, above=True)]
Weight = Annotated[float, Range(0, 1e6)]
Ranks = Mapping[str, Rank]
"""A rank by the name of a site; every mapping among a method's arguments is by the names of sites."""

_TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "text": "text", "path": "path"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One setting's type and limits.

    Args:
        type: "integer", "number", "boolean", "text" or "path"; "anything" plain where a stranger's method says nothing.
        limits: of a number. choices: of a text. pattern: that a text matches as a whole, with ``shape`` in words.
        optional: whether it may be null. by_site: whether it is a value of this kind for every named site.
    """

    type: str
    limits: Range | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    shape: str = ""
    optional: bool = False
    by_site: bool = False

    def __str__(self) -> str:
        told = "one of " + ", ".join(self.choices) if self.choices else self.shape or _TYPES.get(self.type, "any value")
        told += f", {self.limits}" if self.limits else ""
        told = f"by the names of sites: {told}" if self.by_site else told
        return f"{told}, or null" if self.optional else told

    def read(self, name: str, value: Any, *, sites: Collection[str] = ()) -> Any:
        """Return the value as it is used.

        Args:
            name: of the setting, for the message. sites: of the federation, where they are known.

        Raises:
            SettingsError: the value does not fit.
        """
        if value is None and self.optional:
            return None
        if not self.by_site:
            return self._one(name, value)
        if not isinstance(value, Mapping):
            raise self._error(name, value)
        unknown = sorted(site for site in value if sites and site not in sites)
        if unknown:
            raise SettingsError(
                f"{name}: there is no site {unknown[0]!r}{did_you_mean(unknown[0], sites)}; the sites are "
                f"{', '.join(sorted(sites))}"
            )
        return {str(site): self._one(f"{name}, {site}", one) for site, one in value.items()}

    def _one(self, name: str, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
        fits = {
            "integer": number and isinstance(value, int),
            "number": number,
            "boolean": isinstance(value, bool),
            "text": isinstance(value, str) and len(value) <= LONGEST_TEXT,
            "path": isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and "$" not in value,
            "anything": isinstance(value, bool) or number or (isinstance(value, str) and len(value) <= LONGEST_TEXT),
        }[self.type]
        if not fits or (self.limits and value not in self.limits) or (self.choices and value not in self.choices):
            raise self._error(name, value)
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise self._error(name, value)
        return float(value) if self.type == "number" else value

    def _error(self, name: str, value: Any) -> SettingsError:
        near = did_you_mean(value, self.choices) if isinstance(value, str) else ""
        return SettingsError(f"{name} is {short(value)}, expected {self}{near}")


def kind_of(annotation: Any) -> Kind:
    """Return the kind that a type annotation of a method's argument says.

    Raises:
        TypeError: an annotation that no job can give a value for.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        kind = kind_of(inner[0])
        limits = next((one for one in inner[1:] if isinstance(one, Range)), kind.limits)
        choices = next((one for one in inner[1:] if isinstance(one, Choices)), kind.choices)
        return Kind(type=kind.type, limits=limits, choices=tuple(choices), optional=kind.optional, by_site=kind.by_site)
    if origin in (typing.Union, types.UnionType):
        others = [one for one in inner if one is not type(None)]
        if len(others) == 1:
            kind = kind_of(others[0])
            return Kind(type=kind.type, limits=kind.limits, choices=kind.choices, optional=True, by_site=kind.by_site)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        kind = kind_of(inner[1])
        return Kind(type=kind.type, limits=kind.limits, choices=kind.choices, by_site=True)
    plain = {bool: "boolean", int: "integer", float: "number", str: "text"}
    if annotation in plain:
        return Kind(type=plain[annotation])
    raise TypeError(f"found the annotation {annotation}, expected int, float, bool, str, a mapping by site, or a union")


def read_section(where: str, content: Any, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the values of one part of a job's file, all of them judged; what is absent stays so.

    Raises:
        SettingsError: no object, a key that there is none of, or a value that does not fit.
    """
    if not isinstance(content, Mapping):
        raise SettingsError(f"{where} is {short(content)}, expected a JSON object")
    for key in content:
        if key not in kinds:
            raise SettingsError(f"{where}: nothing is called {key}{did_you_mean(key, kinds)}; there are {list(kinds)}")
    return {key: kinds[key].read(f"{where}, {key}", value) for key, value in content.items()}


def require_plain(value: Any, where: str, *, depth: int = 0) -> None:
    """Refuse what a config parser would act on, at any depth: values are never code.

    Raises:
        SettingsError: a string that begins with $, @ or %, a key that begins with one of them or with an underscore,
            a key that no message could show, or something that is no JSON.
    """
    if depth > DEEPEST:
        raise SettingsError(f"{where}: found more than {DEEPEST} levels of nesting, expected plain values")
    if isinstance(value, str):
        if value.lstrip().startswith(CODE):
            raise SettingsError(
                f"{where}: found the text {short(value)}; a job sets values, never code: no text may begin with "
                f"{', '.join(CODE)}. Free-form configs are for `python -m monai.bundle run`"
            )
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            parts = re.split("#|::", key) if isinstance(key, str) else [CODE[0]]
            if isinstance(key, str) and not (key.isprintable() and 0 < len(key) <= LONGEST_KEY):
                raise SettingsError(
                    f"{where}: found the key {short(key)} of {len(key)} characters, expected 1 to {LONGEST_KEY} "
                    "printable ones; `sitelora settings BUNDLE` lists what may be set"
                )
            if any(part.lstrip().startswith((*CODE, "_")) for part in parts):
                raise SettingsError(
                    f"{where}: found the key {short(key)}; a job sets values, never code: no key may begin with "
                    f"{', '.join((*CODE, '_'))}. Free-form configs are for `python -m monai.bundle run`"
                )
            require_plain(inner, f"{where}, {short(key)}", depth=depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            require_plain(inner, where, depth=depth + 1)
    elif not isinstance(value, bool | int | float | None):
        raise SettingsError(f"{where}: found {type(value).__name__}, expected a value that JSON has")


def short(value: Any) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return `` (did you mean 'rank'?)`` for the name that is nearest, or nothing where none is near."""
    inner = [one for one in sorted(known) if one.endswith(f"#{name}")]
    near = inner or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
