"""`sitelora prepare`: a public release, or only a seed, becomes site folders."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "turn a public dataset into site folders; without DATASET, list what can be prepared"
EXAMPLES = """\
  sitelora prepare                                        the datasets, and what each expects of --source
  sitelora prepare prostate_phantom --out data            six artificial sites in data/prostate, nothing to download
  sitelora prepare prostate --source ~/Downloads/six_site_prostate --out data
  sitelora prepare lungs --source chest_xray --site montgomery

A site folder appears whole or not at all. One that is there with the same content is left as it is; one with
other content is refused unless you say --overwrite."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help="what to prepare")
    parser.add_argument("--source", type=Path, metavar="DIR", help="the unpacked public release")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="root of the data (default: $SITELORA_DATA, else ~/.sitelora/data)"
    )
    parser.add_argument("--site", dest="sites", action="append", metavar="SITE", help="only this site; may be repeated")
    parser.add_argument("--overwrite", action="store_true", help="replace site folders that hold something else")


def run(args: argparse.Namespace) -> int:
    """Prepare a dataset, or list what there is."""
    from sitelora.commands._progress import CaseProgress
    from sitelora.data.prepare import converters, prepare
    from sitelora.home import data_root

    if args.dataset is None:
        known = converters()
        width = max(len(name) for name in known)
        for name, converter in known.items():
            print(f"{name:<{width}}  {converter.DESCRIPTION}")
            print(f"{'':<{width}}  sites: {', '.join(converter.SITES)}")
        return 0
    out = args.out or data_root()
    folders = prepare(
        args.dataset,
        source=args.source,
        out=out,
        sites=args.sites,
        overwrite=args.overwrite,
        progress=CaseProgress("writing"),
    )
    for folder in folders:
        print(folder)
    parent = folders[0].parent
    print(f"Ready: {len(folders)} site folder(s). Next: sitelora check {parent}")
    return 0
