"""`sitelora evidence`: the benchmark whose protocol is frozen, for as many minutes as it is given."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from sitelora.commands._values import positive

HELP = "the benchmark of federation against being alone: its protocol, runs for as many minutes as given, its pages"
EXAMPLES = """\
  sitelora evidence --experiments e1 --minutes 60 --data data --out docs/results      goes on where it was stopped
  sitelora evidence --only-page --out docs/results       the protocol and every page again, from the files

What is run and how it is judged is frozen: docs/results/protocol.md. One JSON a run; nothing else is remembered. Runs
of one cell, length and seed stay on one kind of processor: on another one they are refused before they are trained,
with the reason, and the others go on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--experiments", metavar="A,B", help="e1, e2, ...; in this order (default: all that are built)")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="begin no run later (default: 60)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of the site folders (default: $SITELORA_DATA)")
    parser.add_argument("--out", type=Path, default=Path("evidence"), metavar="DIR", help="(default: evidence)")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="runs at a time, one thread each (default: one a core, at most 4)",
    )
    parser.add_argument("--only-page", action="store_true", help="run nothing, write the pages from the files")
    parser.add_argument(
        "--seconds",
        action="store_true",
        help="in place of missing runs, time a few rounds of every row that has settled, one row at a time; nothing "
        "else may be at work",
    )
    parser.add_argument("--plan", action="store_true", help="run nothing, list the runs that come next")
    parser.add_argument("--one", metavar="JSON", help="make one run in this process, as --plan prints it")


def run(args: argparse.Namespace) -> int:
    """Make runs, then the pages."""
    from sitelora.comparison.evidence.block import RefusedError
    from sitelora.comparison.evidence.experiment import experiments, find_experiment
    from sitelora.comparison.evidence.job import EvidenceJob
    from sitelora.comparison.evidence.loop import REFUSED, go_on, time_rows, waiting
    from sitelora.comparison.evidence.pages import write_pages
    from sitelora.comparison.evidence.run import make_run
    from sitelora.comparison.evidence.timing import time_rounds
    from sitelora.home import data_root

    data = (args.data or data_root()).absolute()
    if args.one:
        one = EvidenceJob.from_json(json.loads(args.one))
        try:
            if args.seconds:
                print(time_rounds(one, data=data, out=args.out))
            else:
                print(make_run(one, data=data, out=args.out, at_a_time=args.jobs, tell=_tell))
        except RefusedError as error:
            print(f"sitelora evidence: {one}: {error}", file=sys.stderr)
            return REFUSED
        return 0
    names = [n.strip() for n in args.experiments.split(",")] if args.experiments else list(experiments())
    built = [name for name in names if not find_experiment(name).not_built]
    for name in set(names) - set(built) if args.experiments else ():
        print(f"{name}: not built yet: {find_experiment(name).not_built}", file=sys.stderr)
    if args.plan:
        for one in waiting(built, args.out):
            print(json.dumps(one.to_json()))
        return 0
    failed = 0
    if not args.only_page:
        asked = {"data": data, "out": args.out, "minutes": args.minutes, "tell": _tell}
        failed = time_rows(built, **asked) if args.seconds else go_on(built, at_a_time=args.jobs, **asked)
    for page in write_pages(args.out):
        print(page)
    if failed:
        print(f"sitelora evidence: {failed} runs failed; the same command makes them again", file=sys.stderr)
    return int(failed > 0)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
