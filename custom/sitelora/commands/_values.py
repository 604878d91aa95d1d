"""Arguments that several commands have: bundle values on the command line, a policy, and folders."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sitelora.federation.job import WIRE
from sitelora.value_kinds import key_value, short

if TYPE_CHECKING:
    from sitelora.policy.site_policy import Policy

MOST = 100_000


def bundle_value(text: str) -> tuple[str, Any]:
    """Return ``(id, value)`` of ``id=value``; the value is read as JSON, and as plain text where it is none.

    Raises:
        argparse.ArgumentTypeError: there is no ``=`` or no id.
    """
    found = key_value(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"found {short(text)}, expected id=value, for example method#rank=4")
    return found


def add_bundle_values(parser: argparse.ArgumentParser) -> None:
    """Add ``--set id=value``, which may be repeated."""
    parser.add_argument(
        "--set",
        dest="values",
        metavar="ID=VALUE",
        action=_EachOnce,
        default=[],
        type=bundle_value,
        help="set a value by its id (method#rank=4); may be repeated; `sitelora settings BUNDLE` lists them",
    )


class _EachOnce(argparse.Action):
    """Collect pairs of id and value; an id that comes again is an error, as of two values one would be lost."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        found = list(getattr(namespace, self.dest))
        key, value = values
        for before in (old for name, old in found if name == key):
            told = " and ".join(f"{key}={short(one)}" for one in (before, value))
            raise argparse.ArgumentError(self, f"found {told}, expected every id once; remove one of them")
        setattr(namespace, self.dest, [*found, (key, value)])


def add_wire(parser: argparse.ArgumentParser) -> None:
    """Add what bounds, blurs and rounds what travels."""
    parser.add_argument("--clip-norm", type=float, metavar="X", help="largest norm of a site's whole update")
    parser.add_argument("--noise-std", type=float, metavar="X", help="of the noise, as a multiple of the clip norm")
    parser.add_argument(
        "--noise-on",
        choices=WIRE["noise_on"].choices,
        help="of a pair whose factors would both leave: B alone, with noise (one, the default), or both with noise",
    )
    parser.add_argument(
        "--up", choices=WIRE["up"].choices, help="whole numbers that a site's answer travels in (none: bf16)"
    )
    parser.add_argument(
        "--down", choices=WIRE["down"].choices, help="whole numbers that the server's message travels in"
    )


def as_overrides(values: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the collected ``--set`` values as bundle overrides."""
    return dict(values)


def from_here(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with every file that is there by its whole path: processes are started in another folder."""
    return {
        key: os.path.abspath(value)
        if isinstance(value, str) and Path(value).suffix and os.path.isfile(value)
        else value
        for key, value in values.items()
    }


def positive(text: str) -> int:
    """Return a whole number from 1 to ``MOST``, more than any job may have of anything.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    digits = text.lstrip("0")
    if not text.isdecimal() or not digits or len(digits) > len(str(MOST)) or int(text) > MOST:
        raise argparse.ArgumentTypeError(f"found {short(text)}, expected a whole number from 1 to {MOST}")
    return int(text)


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Declare ``--policy FILE`` and ``--level NAME``, of which one may be given."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--policy", type=Path, metavar="FILE", help="a site's local/sitelora.json")
    which.add_argument("--level", metavar="NAME", help="a shipped level: open, consortium, strict")


def policy_of(args: argparse.Namespace) -> Policy | None:
    """Return the policy that was asked for, None where none was.

    Raises:
        ValueError: there is no such level, or the file is not usable.
    """
    from sitelora.policy.site_policy import Policy

    if args.policy is not None:
        return Policy.read(args.policy)
    return Policy.of_level(args.level) if args.level is not None else None
