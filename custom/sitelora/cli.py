"""The command line: one parser over `sitelora.commands`, and errors as one readable message."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from sitelora import __version__
from sitelora.commands import commands
from sitelora.commands._terminal import shown
from sitelora.federation.refusals import readable
from sitelora.late_imports import import_late

NOT_POSSIBLE = 2
"""Exit code of an error; a command itself returns 0, or 1 when its answer is no (a check with errors)."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of `sitelora` with all its commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error and the library's log")
    whole = argparse.ArgumentParser(
        prog="sitelora",
        description="Adapt one foundation model at many hospitals; only declared tensors ever leave a site.",
        epilog="`sitelora COMMAND --help` shows examples. Exit codes: 0 done, 1 the answer is no, 2 not possible.",
    )
    whole.add_argument("--version", action="version", version=f"sitelora {__version__}")
    below = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in commands().items():
        sub = below.add_parser(
            name,
            parents=[common],
            help=command.HELP,
            description=command.HELP[0].upper() + command.HELP[1:] + ".",
            epilog=f"examples:\n{command.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    import_late()  # before a command imports MONAI
    args = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.debug else logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr
    )
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("sitelora: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if args.debug:
            raise
        print(f"sitelora {args.command}: {shown(readable(error))}", file=sys.stderr)
        return NOT_POSSIBLE


if __name__ == "__main__":
    sys.exit(main())
