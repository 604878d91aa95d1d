"""What a bundle declares in ``configs/settings.json`` and a method in its signature: ids, kinds, scopes, help."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sitelora.bundle import bundle_path
from sitelora.value_kinds import Kind, Range, SettingsError, did_you_mean, kind_of

METHOD = "method"
AGREED, SITE = SCOPES = ("agreed", "site")
"""All sites must agree on a value, or each may choose its own."""

_FIELDS = {"type", "least", "above", "most", "choices", "pattern", "shape", "optional", "scope", "help"}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One id that may be set.

    Args:
        kind: its type and limits. scope: "agreed" or "site". help: one line.
    """

    kind: Kind
    scope: str
    help: str

    @classmethod
    def read(cls, where: str, entry: Mapping[str, Any]) -> Declared:
        """Read one entry of a settings.json.

        Raises:
            SettingsError: it is incomplete, or holds something unknown.
        """
        unknown = sorted(entry.keys() - _FIELDS)
        if unknown or entry.get("scope") not in SCOPES or not entry.get("help") or "type" not in entry:
            raise SettingsError(
                f"{where}: found {sorted(entry)}, expected type, scope and help, with {sorted(_FIELDS)}"
            )
        limits = None
        if "most" in entry:
            above = "above" in entry
            limits = Range(entry["above"] if above else entry["least"], entry["most"], above)
        kind = Kind(
            type=entry["type"],
            limits=limits,
            choices=tuple(entry.get("choices", ())),
            pattern=entry.get("pattern", ""),
            shape=entry.get("shape", ""),
            optional=entry.get("optional", False),
        )
        return cls(kind=kind, scope=entry["scope"], help=entry["help"])


def declared(bundle: str) -> dict[str, Declared]:
    """Return what a bundle lets be set, by id, in its own order.

    Raises:
        BundleNotFoundError: no such bundle.
    """
    path = bundle_path(bundle) / "configs" / "settings.json"
    content = json.loads(path.read_bytes())
    return {key: Declared.read(f"{path}, {key}", entry) for key, entry in content.items()}


@functools.cache
def argument_kinds(function: Callable[..., Any]) -> Mapping[str, Kind]:
    """Return the kinds of a method's arguments, by name; an argument that no job can set is left out."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError:  # a stranger's annotations may name what only a type checker imports
        hints = {}
    found = {}
    for name in inspect.signature(function).parameters:
        try:
            found[name] = kind_of(hints[name]) if name in hints else Kind(type="anything")
        except TypeError:
            continue
    return found


def judge(
    where: str,
    kinds: Mapping[str, Kind],
    values: Mapping[str, Any],
    *,
    prefix: str = "",
    others: Collection[str] = (),
    sites: Collection[str] = (),
) -> dict[str, Any]:
    """Return the values as they are used.

    Args:
        where: for messages. kinds: of all that may be set, by name.
        prefix: of the names in messages (``method#``). others: further ids that could have been meant.
        sites: names of the federation's sites, where they are known.

    Raises:
        SettingsError: a name that nothing declares, or a value that does not fit.
    """
    for name in values:
        if name not in kinds:
            ids = [f"{prefix}{one}" for one in kinds]
            near = did_you_mean(f"{prefix}{name}", [*ids, *others])
            raise SettingsError(f"{where}: nothing is called {prefix}{name}{near}. May be set: {', '.join(ids)}")
    return {name: kinds[name].read(f"{where}: {prefix}{name}", value, sites=sites) for name, value in values.items()}
