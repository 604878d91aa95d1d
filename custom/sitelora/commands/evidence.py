"""`sitelora evidence`: the benchmark whose protocol is frozen, for as many minutes as it is given."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "the benchmark of federation against being alone: its protocol, runs for as many minutes as given, its pages"
EXAMPLES = """\
  sitelora evidence --only-page --out docs/results       the protocol and every page again, from the files

What is run and how it is judged is frozen: docs/results/protocol.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--only-page", action="store_true", required=True, help="write the pages from the files")
    parser.add_argument("--out", type=Path, default=Path("evidence"), metavar="DIR", help="(default: evidence)")


def run(args: argparse.Namespace) -> int:
    """Write the pages."""
    from sitelora.comparison.evidence.protocol import write_protocol

    print(write_protocol(args.out))
    return 0
