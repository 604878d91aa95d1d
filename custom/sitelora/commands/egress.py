"""`sitelora egress`: what leaves a site under a bundle, as a table for an ethics board and as JSON."""

from __future__ import annotations

import argparse
import json

from sitelora.commands._values import add_bundle_values, add_wire, as_overrides, positive
from sitelora.federation.job import WIRE

HELP = "show what leaves a site, what stays and what is frozen, with bytes"
EXAMPLES = """\
  sitelora egress iat_segmentation
  sitelora egress iat_segmentation --set method#rank=4 --rounds 20 --sites 3
  sitelora egress iat_segmentation --set arch=vit_b --set image_size=224
  sitelora egress iat_segmentation --rounds 20 --clip-norm 1 --noise-std 1     with what the noise is worth
  sitelora egress iat_segmentation --up int4 --down int8    fewer bytes: in blocks of 64 whole numbers with a scale
  sitelora egress iat_segmentation --json > egress.json     every tensor by name

No data and no checkpoint is needed; nothing is trained."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="name of an installed bundle")
    add_bundle_values(parser)
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="rounds of the run (5)")
    parser.add_argument("--sites", type=positive, default=6, metavar="N", help="sites in the run (6)")
    add_wire(parser)
    parser.add_argument("--json", action="store_true", help="print every tensor as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the statement."""
    from sitelora.commands._egress_text import format_statement
    from sitelora.egress import egress_statement
    from sitelora.sharing.wire import WireFormat

    wire = WireFormat(**{name: value for name, value in vars(args).items() if name in WIRE and value is not None})
    statement = egress_statement(
        args.bundle, as_overrides(args.values), rounds=args.rounds, sites=args.sites, wire=wire
    )
    print(json.dumps(statement.to_json(), indent=1) if args.json else format_statement(statement))
    return 0
