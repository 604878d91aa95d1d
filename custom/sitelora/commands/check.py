"""`sitelora check`: what is wrong with a site's data, and how to mend it, before anything is trained on it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "say what is wrong with a site folder, or with every site of a dataset folder, and how to mend it"
EXAMPLES = """\
  sitelora check data/prostate/site-1     one site
  sitelora check data/prostate            all sites in it
  sitelora check data/lungs --bundle iat_segmentation --set pictures=true
                                          does it fit this bundle with these values?

Exit code 0: fit for training (there may be warnings); 1: at least one error. Nothing is changed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from sitelora.commands._values import add_bundle_values

    parser.add_argument("folder", type=Path, metavar="DIR", help="a site folder, or a folder of site folders")
    parser.add_argument("--bundle", metavar="NAME", help="check against what this bundle expects, as a run begins with")
    add_bundle_values(parser)


def run(args: argparse.Namespace) -> int:
    """Check one folder."""
    from sitelora.commands._progress import CaseProgress
    from sitelora.commands._terminal import printable
    from sitelora.data.check import check_folder, format_check

    needs = None
    if args.bundle:
        from sitelora.federation.bundle_config import data_needs
        from sitelora.federation.preflight import require_trainable
        from sitelora.settings import read_settings

        settings = read_settings(args.bundle, dict(args.values))
        require_trainable(settings)
        needs = data_needs(args.bundle, settings.parser())
    elif args.values:
        print("sitelora check: --set belongs to --bundle NAME; name the bundle", file=sys.stderr)
        return 2
    results = check_folder(args.folder, needs=needs, progress=CaseProgress("reading"))
    print(printable("\n\n".join(format_check(result) for result in results)))
    bad = [result.site for result in results if result.errors]
    if len(results) > 1:
        print(f"\n{len(results) - len(bad)} of {len(results)} sites are fit for training" + _named(bad))
    return 1 if bad else 0


def _named(sites: list[str]) -> str:
    return f"; mend {', '.join(sites)}" if sites else ""
