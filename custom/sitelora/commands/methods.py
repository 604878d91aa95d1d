"""`sitelora methods`: every method with its paper, what it shares, and what a round costs on a bundle's network."""

from __future__ import annotations

import argparse
import importlib
import inspect
import textwrap

from sitelora.commands._values import add_bundle_values, as_overrides, positive

BUNDLE = "iat_segmentation"
HELP = "list the methods: paper, what is shared, values and bytes per round"
EXAMPLES = """\
  sitelora methods
  sitelora methods --rank 8 --sites 3                           every method at one rank
  sitelora methods --set arch=vit_b --set image_size=224        on SAM ViT-B, as FLAP-SAM counts
  sitelora methods iat                                          what one method is, and its arguments"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("method", nargs="?", metavar="METHOD", help="tell about this one")
    parser.add_argument("--rank", type=positive, metavar="R", help="of every method that has one (its own default)")
    parser.add_argument("--bundle", default=BUNDLE, metavar="B", help=f"whose network is counted ({BUNDLE})")
    add_bundle_values(parser)
    parser.add_argument("--sites", type=positive, default=6, metavar="N", help="in a round; stacks grow with them (6)")


def run(args: argparse.Namespace) -> int:
    """Print one line a method, or one method's own words."""
    from sitelora.declared import argument_kinds
    from sitelora.method_registry import find_method, method_names

    if args.method is None:
        return _table(method_names(), args)
    function = find_method(args.method)
    module = importlib.import_module(function.__module__)
    print((module.__doc__ or "").strip())
    print()
    kinds = argument_kinds(function)
    for name, parameter in inspect.signature(function).parameters.items():
        print(f"  method#{name}={parameter.default!r}: {kinds.get(name, 'not to be set')}")
    return 0


def _table(names: list[str], args: argparse.Namespace) -> int:
    from sitelora.commands._method_costs import method_cost
    from sitelora.federation.bundle_config import meta_network
    from sitelora.networks.parts import PartsError
    from sitelora.report.format_values import bytes_text, columns

    given = as_overrides(args.values)
    network = meta_network(args.bundle, given)
    arguments = {"rank": args.rank} if args.rank else {}
    rows = [("method", "paper", "shared", "values", "up", "down", "mean product")]
    without = []
    for name in names:
        try:
            cost = method_cost(name, network, sites=args.sites, arguments=arguments)
        except PartsError as why:
            without.append(f"{name}: {why}")
            continue
        up = dict.fromkeys(bytes_text(count) for count in cost.bytes_up)
        values = dict.fromkeys(f"{count:,}" for count in cost.values)
        rows.append(
            (
                name,
                cost.method.paper,
                cost.shared,
                " / ".join(values),
                " / ".join(up),
                bytes_text(cost.bytes_down),
                cost.method.mean_product,
            )
        )
    print("\n".join(columns(rows, right=(3, 4, 5))))
    for line in without:
        print(textwrap.fill(line, width=118, initial_indent="\n", subsequent_indent="  "))
    print()
    print(textwrap.fill(_note(args, given), width=118))
    return 0


def _note(args: argparse.Namespace, given: dict[str, object]) -> str:
    rank = f"rank {args.rank}" if args.rank else "each method's own rank"
    set_to = "".join(f", {key}={value}" for key, value in given.items())
    return (
        f"The network of {args.bundle}{set_to}, {rank}. Values and bytes (bf16) that one site of the full rank "
        f"sends and receives in a round of {args.sites} sites; where rounds differ, of one and of the next. Heads: "
        "what is trained beside adapters (of SAM upscaling, hyper-networks and mask tokens). Mean product: what the "
        "sites have after a round, against the weighted mean of their products B A, in fp32; the bf16 wire rounds "
        "every message by 0.1 to 0.3 %. `sitelora methods NAME` tells about one."
    )
