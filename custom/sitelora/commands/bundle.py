"""`sitelora bundle`: write a MONAI bundle, complete by itself, from the source of all of them."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a MONAI bundle, complete by itself: for the model zoo, for MONAI Label, or to change a copy"
EXAMPLES = """\
  sitelora bundle                                list the bundles that there are
  sitelora bundle iat_segmentation               write ./iat_segmentation
  sitelora bundle --all --out bundles            all of them, as they are committed: `make export`

What is there is written anew; models in it stay. A federation runs the bundle that is installed at every site, never an
edited copy: its job says what is to be different (--set)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("name", nargs="?", metavar="NAME", help="which bundle; without it, they are listed")
    which.add_argument("--all", action="store_true", help="every bundle")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the folder goes (default: here)")


def run(args: argparse.Namespace) -> int:
    """Write what is asked for, or list all of them."""
    from sitelora.bundle_source.export import find_source, source_names, write_bundle

    if args.name is None and not args.all:
        print("\n".join(source_names()))
        return 0
    for name in source_names() if args.all else [args.name]:
        print(write_bundle(find_source(name), args.out / name))
    return 0
