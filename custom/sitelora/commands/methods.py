"""`sitelora methods`: the methods that are installed, each with the first line of its module."""

from __future__ import annotations

import argparse
import importlib

HELP = "list the methods that are installed"
EXAMPLES = """\
  sitelora methods"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no argument."""


def run(args: argparse.Namespace) -> int:
    """Print one line a method."""
    from sitelora import methods

    names = methods.method_names()
    width = max(len(name) for name in names)
    for name in names:
        documentation = importlib.import_module(f"{methods.__name__}.{name}").__doc__ or ""
        print(f"{name:<{width}}  {documentation.strip().splitlines()[0]}")
    return 0
