"""What ``result.json`` says, as one typed record for those who write it and those who read it; starts without torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class RunResultError(ValueError):
    """A result that says something other than what its format promises."""


@dataclass(frozen=True, kw_only=True)
class SiteRound:
    """What one site did in one round; ``status`` is ``ok``, ``missing`` or ``rejected``."""

    status: str
    reason: str = ""
    cases: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round, numbered as in the logs (the first is 0); ``details``: the server's numbers by adapter or site."""

    number: int
    seconds: float | None
    sites: Mapping[str, SiteRound]
    server: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Which model a site is served after the last round.

    Attributes:
        model: "received", "trained" or "previous". round_number: that it was received for or trained in, from 0.
        validation: its Dice on the site's validation cases; None where it has none. why: in a few words.
    """

    model: str
    round_number: int
    validation: float | None = None
    why: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str) -> ServedModel:
        """Read the ``served`` of a personal model.

        Args:
            where: whose it is, for the message.

        Raises:
            RunResultError: the model or its round is missing or of another type.
        """
        model, number, score = value.get("model"), value.get("round"), value.get("validation")
        if not isinstance(model, str) or not isinstance(number, int):
            raise RunResultError(
                f"{where}: 'served' is {dict(value)}, expected 'model' (a word) and 'round' (a number)"
            )
        return cls(
            model=model,
            round_number=number,
            validation=float(score) if isinstance(score, int | float) else None,
            why=str(value.get("why") or ""),
        )

    @property
    def words(self) -> str:
        """Return it for a reader: what kind of model, and of which round."""
        number = self.round_number
        if self.model == "received":  # a message is made by the round before the one it is received for
            return f"received after round {number - 1}" if number else "received at the start"
        return f"trained in round {number}" if self.model == "trained" else f"kept from round {number}"


def read_round(value: Mapping[str, Any], position: int) -> Round:
    """Read one entry of ``rounds``."""
    told = number(value.get("round"))
    sites = {}
    for site in sorted(mapping(value, "sites"), key=natural):
        entry = mapping(mapping(value, "sites"), site)
        cases = number(entry.get("cases"))
        sites[site] = SiteRound(
            status=str(entry.get("status") or "ok"),
            reason=str(entry.get("reason") or ""),
            cases=None if cases is None else int(cases),
            bytes_up=int(number(entry.get("bytes_up")) or 0),
            bytes_down=int(number(entry.get("bytes_down")) or 0),
            seconds=number(entry.get("seconds")),
            metrics={str(name): number(metric) for name, metric in mapping(entry, "metrics").items()},
        )
    return Round(
        number=position if told is None else int(told),
        seconds=number(value.get("seconds")),
        sites=sites,
        server=mapping(value, "server"),
        details=mapping(value, "details"),
    )


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts ``site-2`` before ``site-10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def number(value: Any) -> float | None:
    """Return a finite number, else ``None``."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return ``parent[key]``, empty when absent.

    Raises:
        RunResultError: it is something other than an object.
    """
    value = parent.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise RunResultError(f"{key!r} is a {type(value).__name__}, expected an object: was the file edited by hand?")
    return value or {}


def items(parent: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return ``parent[key]``, empty when absent.

    Raises:
        RunResultError: it is something other than a list.
    """
    value = parent.get(key)
    if value is not None and not isinstance(value, list):
        raise RunResultError(f"{key!r} is a {type(value).__name__}, expected a list: was the file edited by hand?")
    return value or []


def objects(parent: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """Return ``parent[key]``, a list of objects, empty when absent.

    Raises:
        RunResultError: it is something other than a list of objects.
    """
    for value in items(parent, key):
        if not isinstance(value, Mapping):
            raise RunResultError(f"{key!r} holds the {type(value).__name__} {value!r}, expected objects only")
    return items(parent, key)
