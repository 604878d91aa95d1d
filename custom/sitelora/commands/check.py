"""`sitelora check`: what is wrong with a site's data, and how to mend it, before anything is trained on it."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "say what is wrong with a site folder, or with every site of a dataset folder, and how to mend it"
EXAMPLES = """\
  sitelora check data/prostate/site-1     one site
  sitelora check data/prostate            all sites in it

Exit code 0: fit for training (there may be warnings); 1: at least one error. Nothing is changed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a site folder, or a folder of site folders")


def run(args: argparse.Namespace) -> int:
    """Check one folder."""
    from sitelora.commands._progress import CaseProgress
    from sitelora.data.check import check_folder, format_check

    results = check_folder(args.folder, progress=CaseProgress("reading"))
    print("\n\n".join(format_check(result) for result in results))
    bad = [result.site for result in results if result.errors]
    if len(results) > 1:
        print(f"\n{len(results) - len(bad)} of {len(results)} sites are fit for training" + _named(bad))
    return 1 if bad else 0


def _named(sites: list[str]) -> str:
    return f"; mend {', '.join(sites)}" if sites else ""
