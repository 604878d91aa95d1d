"""`sitelora compare`: methods side by side on one dataset at equal budgets, from runs to tables and plots."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sitelora.commands._values import add_bundle_values, as_overrides, positive

if TYPE_CHECKING:
    from sitelora.comparison.setup import Setup

CORES = min(4, os.cpu_count() or 1)
HELP = "compare methods on a dataset at equal budgets: one JSON file a run, a page with tables and plots"
EXAMPLES = """\
  sitelora compare --dataset prostate_phantom --methods iat,fedsa_lora,local --seeds 1
  sitelora compare --dataset lungs --data data --methods iat,fedavg_lora,local,centralised --seeds 3
  sitelora compare --dataset lungs --data data --methods iat,iat+encoder_shares=A+decoder_shares=B,local
  sitelora compare --dataset my_setup.toml --data data --methods iat,local      a setup of your own
  sitelora compare --dataset spleens --sites north,south --data data --methods iat,local    any that check passes
  sitelora compare --dataset lungs --only-page        write the page again from the files that are there

Every method has the same base, steps, data order and choice of learning rates; the rate is chosen for each on the first
seed by the validation score. Every run has a file: stopped at any moment, the same command goes on with those missing.
`centralised` pools all sites' images in one folder, which no federation has: for public data only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--dataset",
        required=True,
        metavar="NAME",
        help="lungs, cells, nuclei, prostate, prostate_phantom; lungs_short, cells_short; or a setup's FILE.toml",
    )
    parser.add_argument(
        "--sites",
        type=names,
        default=(),
        metavar="A,B",
        help="any dataset below --data that passes the check: its sites",
    )
    parser.add_argument("--methods", type=names, default=(), metavar="A,B", help="their names, or MODULE.FUNCTION")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="seeds 0 to N-1 (default: 3)")
    parser.add_argument("--rates", type=rates, metavar="X,Y", help="learning rates to choose from (default: 3 of them)")
    parser.add_argument("--rounds", type=positive, metavar="N", help="instead of the dataset's")
    parser.add_argument("--epochs", type=positive, metavar="N", help="of every round, instead of the dataset's")
    add_bundle_values(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of the site folders (default: $SITELORA_DATA)")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=CORES,
        metavar="N",
        help="runs at a time, one thread each (default: one a core, at most 4)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where files go (default: comparison)")
    parser.add_argument("--again", action="store_true", help="replace runs that have a file")
    parser.add_argument("--only-page", action="store_true", help="run nothing, write the page from the files")


def names(text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list.

    Raises:
        argparse.ArgumentTypeError: there is none in it.
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected names, for example site-1,site-2")
    return found


def rates(text: str) -> tuple[float, ...]:
    """Return the positive numbers of a comma-separated list.

    Raises:
        argparse.ArgumentTypeError: one is none.
    """
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = (0.0,)
    if min(found) <= 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected positive numbers, for example 0.002,0.004")
    return found


def run(args: argparse.Namespace) -> int:
    """Make the missing runs, then the page."""
    from sitelora.commands import CommandError
    from sitelora.comparison.overview import write_overview
    from sitelora.comparison.own_data import own_setup, write_setup
    from sitelora.comparison.page import write_page
    from sitelora.comparison.setup import ENDING, ON_ALL_IMAGES, find_setup, keep_setup
    from sitelora.home import data_root
    from sitelora.method_registry import method_names, own_name, with_arguments
    from sitelora.settings import name_method

    args.methods = tuple(dict.fromkeys(own_name(name) for name in args.methods))
    out = args.out or Path("comparison")
    if args.sites and not args.only_page:
        name = write_setup(own_setup(args.dataset, args.sites, (args.data or data_root()).absolute()), out)
    elif args.sites:
        name = f"{args.dataset}_own"
    else:
        name = keep_setup(Path(args.dataset), out) if args.dataset.endswith(ENDING) else args.dataset
    setup = find_setup(name, out)
    if not args.only_page:
        known = {*method_names(), *ON_ALL_IMAGES}
        called = {spec: with_arguments(spec)[0] for spec in args.methods}
        unknown = [spec for spec, method in called.items() if method not in known and "." not in method]
        if unknown or not args.methods:
            raise CommandError(
                f"found the methods {', '.join(unknown) or 'none'}, expected some of {', '.join(sorted(known))}"
            )
        for spec in args.methods:
            name_method(spec)
        if _make_runs(args, name, setup, out):
            print("sitelora compare: some runs failed; the same command makes them again", file=sys.stderr)
            return 1
    print(write_page(name, setup, out))
    write_overview(out)
    return 0


def _make_runs(args: argparse.Namespace, name: str, setup: Setup, out: Path) -> int:
    from sitelora.comparison.run import Job
    from sitelora.comparison.schedule_runs import compare
    from sitelora.comparison.setup import data_of
    from sitelora.home import data_root

    setup = replace(
        setup,
        rounds=args.rounds or setup.rounds,
        epochs=args.epochs or setup.epochs,
        rates=args.rates or setup.rates,
        overrides={**setup.overrides, **as_overrides(args.values)},
    )
    data = data_of(name, setup, (args.data or data_root()).absolute())

    def make(method: str, rate: float, seed: int) -> Job:
        return Job(
            name=name,
            method=method,
            rate=rate,
            seed=seed,
            setup=setup,
            data=data,
            out=out,
            command=command_of(args),
            at_a_time=args.jobs,
        )

    return compare(
        make,
        methods=args.methods,
        rates=setup.rates,
        seeds=range(args.seeds),
        again=args.again,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )


def command_of(args: argparse.Namespace) -> str:
    """Return the command that makes all runs again, without folders of this machine."""
    words = ["sitelora", "compare", "--dataset", Path(args.dataset).name, "--methods", ",".join(args.methods)]
    words += ["--sites", ",".join(args.sites)] if args.sites else []
    words += ["--seeds", str(args.seeds)]
    if args.rates:
        words += ["--rates", ",".join(f"{rate:g}" for rate in args.rates)]
    for option in ("rounds", "epochs"):
        if getattr(args, option):
            words += [f"--{option}", str(getattr(args, option))]
    for key, value in args.values:
        words += ["--set", f"{key}={json.dumps(value)}"]
    return shlex.join(words)
