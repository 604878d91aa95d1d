"""`sitelora models`: which exported versions there are, which is served, and going back to another one."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "list exported models with date and score, say which is served, or serve another version"
EXAMPLES = """\
  sitelora models exported                          all versions; * marks the one that is served
  sitelora models exported --serve iat_prostate_site-1_20261126_segmentation

What is served becomes a new file with a new time, because MONAI Label compares times: it takes the other model with the
next image, without a start of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder of exported bundles")
    parser.add_argument("--serve", metavar="VERSION", help="make this version what is served of its line")


def run(args: argparse.Namespace) -> int:
    """List the versions, or serve one."""
    from sitelora.commands import CommandError
    from sitelora.commands._terminal import one_line
    from sitelora.model_export.versions import serve, served_in, versions_in

    if not args.folder.is_dir():
        raise CommandError(f"{args.folder} is no folder; `sitelora export RUN --site NAME --out DIR` makes one")
    if args.serve is not None:
        copy, restart = serve(args.folder, args.serve)
        print(one_line(f"{copy.folder} is now {args.serve}"))
        if restart:
            print("start MONAI Label anew: the network is another one")
        return 0
    served = {each.served_from for each in served_in(args.folder).values()}
    rows = [["", "version", "date", "score", "cases", "method", "run"]]
    for version in versions_in(args.folder):
        told, mark = version.told, "*" if version.name in served else ""
        rows.append(
            [mark, version.name, str(told["date"]), version.score_text]
            + [str(told.get(key, "")) for key in ("cases", "method", "uid")]
        )
    print(_table(rows) if len(rows) > 1 else f"no exported model in {args.folder}")
    return 0


def _table(rows: list[list[str]]) -> str:
    from sitelora.commands.status import table

    return table(rows)
