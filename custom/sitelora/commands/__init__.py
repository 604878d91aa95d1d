"""One module a sub-command of `sitelora`, found by looking in this folder; a leading underscore marks a helper."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from typing import Protocol, cast


class CommandError(ValueError):
    """What was asked for cannot be done; the message says what to do instead."""


class Command(Protocol):
    """The names that a command's module offers; importing it must stay light."""

    HELP: str
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""


def commands() -> dict[str, Command]:
    """Return every command by name, sorted."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    return {name: cast(Command, importlib.import_module(f"{__name__}.{name}")) for name in names}
