"""Frozen dataclasses as JSON and back by their type hints: one description of a file for who writes and who reads it.

Reading is strict: a key that is not known, or a value of another type, is an error with the key, what was found and
what was expected. An absent key means the field's default; null too, where the field may not be None. A number that is
not finite (JSON has none) reads as None where there may be none.

A field's metadata may say: ``key``, its name in the file; ``OMIT``: not written while it is the default; ``REST``: a
mapping of all keys that no other field takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from sitelora.value_kinds import did_you_mean

OMIT, REST = {"omit": True}, {"rest": True}
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Sequence: "a list"}
_SCALARS: Mapping[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}
T = TypeVar("T")


class TypedJsonError(ValueError):
    """JSON that says something other than what was described."""


def to_json(value: Any) -> Any:
    """Return a value of dataclasses, mappings and sequences as plain dictionaries and lists, fields in order."""
    if is_dataclass(value) and not isinstance(value, type):
        told: dict[str, Any] = {}
        for each in fields(value):
            inner = getattr(value, each.name)
            if each.metadata.get("rest"):
                told.update(to_json(inner))
            elif not (each.metadata.get("omit") and inner == _default(each)):
                told[_key(each)] = to_json(inner)
        return told
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def from_json(kind: type[T], value: object, where: str = "") -> T:
    """Return JSON as a dataclass.

    Args:
        kind: the dataclass. where: what the value is, before the key in a message.

    Raises:
        TypedJsonError: it is something else.
    """
    told = _expect(value, Mapping, "an object", where)
    hints, known = _hints(kind), {_key(each): each for each in fields(kind) if not each.metadata.get("rest")}  # type: ignore[arg-type]
    rest = next((each for each in fields(kind) if each.metadata.get("rest")), None)  # type: ignore[arg-type]
    strangers = {key: inner for key, inner in told.items() if key not in known}
    if strangers and rest is None:
        key = str(next(iter(strangers)))
        near = did_you_mean(key, known)
        raise TypedJsonError(f"{_at(where, key)}: found an unknown key{near}, expected {', '.join(known)}")
    values: dict[str, Any] = {}
    for key, each in known.items():
        inner = told.get(key)
        if inner is not None or (key in told and NoneType in get_args(hints[each.name])):
            values[each.name] = _read(hints[each.name], inner, _at(where, key))
        elif each.default is MISSING and each.default_factory is MISSING:
            raise TypedJsonError(f"{_at(where, key)}: found nothing, expected {_words(hints[each.name])}")
    if rest is not None:
        values[rest.name] = _read(hints[rest.name], strangers, where)
    return kind(**values)


def _read(kind: Any, value: object, where: str) -> Any:
    if kind is Any:
        return value
    members = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if NoneType in members:
        members = tuple(member for member in members if member is not NoneType)
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return None
    if len(members) > 1 or members[0] in _SCALARS:
        accepted = tuple(one for member in members for one in _SCALARS[member])
        return _expect(value, accepted, _words(kind), where, not_a_flag=bool not in members)
    (kind,) = members
    if get_origin(kind) is Mapping:
        told = _expect(value, Mapping, _words(kind), where)
        return {key: _read(get_args(kind)[1], inner, _at(where, key)) for key, inner in told.items()}
    if get_origin(kind) is Sequence:
        listed = _expect(value, list, _words(kind), where)
        return tuple(_read(get_args(kind)[0], inner, f"{where}[{place}]") for place, inner in enumerate(listed))
    return from_json(kind, value, where)


def _expect(value: Any, kinds: Any, words: str, where: str, *, not_a_flag: bool = False) -> Any:
    good = isinstance(value, kinds) and not (not_a_flag and isinstance(value, bool))
    if not good or (isinstance(value, float) and not math.isfinite(value)):
        raise TypedJsonError(f"{where}{': ' if where else ''}found {value!r:.60}, expected {words}")
    return value


def _words(kind: Any) -> str:
    members = [member for member in get_args(kind) if member is not NoneType] if isinstance(kind, UnionType) else [kind]
    return " or ".join(_WORDS.get(get_origin(member) or member, "an object") for member in members)


def _at(where: str, key: object) -> str:
    return f"{where}{'.' if where else ''}{key}"


def _key(each: Field[Any]) -> str:
    return str(each.metadata.get("key", each.name))


def _default(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
