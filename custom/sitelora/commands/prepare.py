"""`sitelora prepare`: a public release, only a seed, or an annotator's corrections become site folders."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "turn a public dataset into site folders; without DATASET, list what can be prepared"
EXAMPLES = """\
  sitelora prepare                                        the datasets, and what each expects of --source
  sitelora prepare prostate_phantom --out data            six artificial sites in data/prostate, nothing to download
  sitelora prepare prostate --source ~/Downloads/six_site_prostate --out data
  sitelora prepare lungs --source chest_xray --site montgomery
  sitelora prepare monailabel --source studies --folder data/prostate/site-1 --out corrected    masks that came back

A site folder appears whole or not at all. One that is there with the same content is left as it is; one with
other content is refused unless you say --overwrite. `monailabel` writes the site folder anew below --out, with
corrected masks as training cases; those of patients in test or validation are kept aside. A label that is unfit is
named, the others are taken, and the command ends with 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help="what to prepare")
    parser.add_argument("--source", type=Path, metavar="DIR", help="the unpacked public release")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="root of the data (default: $SITELORA_DATA, else ~/.sitelora/data)"
    )
    parser.add_argument("--site", dest="sites", action="append", metavar="SITE", help="only this site; may be repeated")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="monailabel: the site folder as it is")
    parser.add_argument(
        "--patients",
        type=Path,
        metavar="FILE",
        help="monailabel: CSV image,patient of images that --folder does not have",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace site folders that hold something else")


def run(args: argparse.Namespace) -> int:
    """Prepare a dataset, or list what there is."""
    from sitelora.commands._progress import CaseProgress
    from sitelora.data.corrections import corrected_site
    from sitelora.data.prepare import converters, prepare
    from sitelora.home import data_root
    from sitelora.stopping import stops_as_interrupt

    if args.dataset is None:
        known = converters()
        width = max(len(name) for name in known)
        for name, converter in known.items():
            print(f"{name:<{width}}  {converter.DESCRIPTION}")
            print(f"{'':<{width}}  sites: {', '.join(converter.SITES)}")
        print(f"{corrected_site.NAME:<{width}}  {corrected_site.DESCRIPTION}")
        return 0
    out = args.out or data_root()
    with stops_as_interrupt():  # no part of a site folder is left
        if args.dataset == corrected_site.NAME:
            return _corrections(args, out)
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


def _corrections(args: argparse.Namespace, out: Path) -> int:
    """Take an annotator's masks into a site folder; 1 where one was refused."""
    from sitelora.commands._progress import CaseProgress
    from sitelora.data.corrections.corrected_site import correct_site

    done = correct_site(
        args.source,
        out,
        folder=args.folder,
        patients=args.patients,
        overwrite=args.overwrite,
        progress=CaseProgress("comparing"),
    )
    for taken in done.taken:
        print(f"{taken.final.name}: {taken.words}")
    for refused in done.refused:
        print(f"! {refused.name} refused: {refused.why}")
    counts = ", ".join(f"{count} {kind}" for kind, count in done.counts.items())
    print(f"{counts}; {done.unlabelled} image(s) without a final label")
    print(f"{done.folder}\nNext: sitelora check {done.folder}")
    return 1 if done.refused else 0
