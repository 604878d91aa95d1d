"""`sitelora export`: a site's model as a complete MONAI bundle, for a workstation."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

HELP = "write a site's model as a complete MONAI bundle, checked before it is there: for MONAI Label and the like"
EXAMPLES = """\
  sitelora export iat_prostate --site site-1 --out exported      the model that site-1 is served
  sitelora export iat_prostate --site site-1 --model global --out exported
  sitelora export RUN --site site-1 --out exported --keep        write it, and let what is served stay

Every export is one more version; `sitelora models exported` lists them and goes back to an older one. What is served
of a line, `exported/<federation>_<site>_segmentation`, is a copy of one version: give a viewer this name.
A model can remember its training data: treat the folder as you treat the images."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "name", metavar="RUN", help="a run's folder, its uid, or a federation's name for its newest run"
    )
    parser.add_argument("--site", required=True, metavar="NAME", help="whose model")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of exported bundles")
    parser.add_argument(
        "--model",
        choices=("personal", "global", "unseen"),
        default="personal",
        help="which of the site's models (personal: the one that it is served)",
    )
    parser.add_argument("--keep", action="store_true", help="do not make it what is served")
    parser.add_argument("--home", type=Path, metavar="DIR", help="where runs are kept (default: $SITELORA_HOME)")


def run(args: argparse.Namespace) -> int:
    """Export one model."""
    from sitelora.commands import CommandError
    from sitelora.commands.report import find_run

    for needed, what in (("jinja2", "its model card"), ("jsonschema", "a check of its metadata")):
        if find_spec(needed) is None:
            raise CommandError(f"{needed} is not installed here, an export needs it for {what}: pip install {needed}")
    from sitelora.model_export.export import export_model
    from sitelora.model_export.model_of_run import ModelOfRun

    origin = ModelOfRun.find(find_run(args.name, args.home), args.site, args.model)
    exported = export_model(origin, args.out, served=not args.keep)
    print(exported.folder)
    for passed in exported.checked:
        print(f"  checked: {passed}")
    if exported.served_as:
        print(f"  served as {args.out / exported.served_as}")
    if exported.before:
        print(f"  before it {exported.before}; to go back: sitelora models {args.out} --serve {exported.before}")
    if exported.restart:
        print("  start MONAI Label anew: the network is another one")
    return 0
