"""`sitelora settings`: what a job, a command or a person may set of a bundle, with types, ranges and defaults."""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap
from typing import Any

HELP = "list what may be set of a bundle: ids, types, ranges, defaults, and what all sites must agree on"
EXAMPLES = """\
  sitelora settings iat_segmentation
  sitelora settings iat_segmentation --method hetlora      the arguments of another method
  sitelora settings                                         the bundles that there are

Set them with --set ID=VALUE of `simulate`, `compare`, `egress` and `job`. What a site may choose, its own
local/sitelora.json sets under "settings"."""

WIDTH = 118


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="name of an installed bundle")
    parser.add_argument("--method", metavar="NAME", help="list this method's arguments (default: the bundle's own)")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from sitelora.bundle import bundle_names

    if args.bundle is None:
        print("\n".join(bundle_names()))
        return 0
    from sitelora.declared import METHOD, SITE, argument_kinds, declared
    from sitelora.method_registry import find_method
    from sitelora.settings import name_method, own_method, read_settings

    if args.method:
        name_method(args.method)
    settings = read_settings(args.bundle, {METHOD: args.method} if args.method else {})
    config = read_settings(args.bundle).parser()
    for title, scope in (("All sites must agree on:", "agreed"), ("A site may choose for itself:", SITE)):
        print(title)
        for key, one in declared(args.bundle).items():
            if one.scope == scope:
                default = own_method(args.bundle) if key == METHOD else config[key]
                _tell(key, str(one.kind), default, one.help)
        print()
    name = args.method or own_method(args.bundle)
    function = find_method(name)
    print(f"Arguments of {name}; `sitelora methods {name}` says what they are:")
    defaults = {key: parameter.default for key, parameter in inspect.signature(function).parameters.items()}
    for key, kind in argument_kinds(function).items():
        _tell(f"{METHOD}#{key}", str(kind), settings.method_config.get(key, defaults[key]), "")
    return 0


def _tell(key: str, kind: str, default: Any, words: str) -> None:
    computed = isinstance(default, str) and default.startswith("$")
    shown = "computed" if computed else json.dumps(default)
    print(textwrap.fill(f"{key} = {shown}: {kind}", WIDTH, initial_indent="  ", subsequent_indent=" " * 6))
    if words:
        print(textwrap.fill(words, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))
