"""`sitelora fit`: does a job fit at this site, and how long will it take, from a short probe of the real thing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sitelora.commands._values import add_bundle_values, as_overrides, positive

HELP = "say whether a job fits on this machine, how long a round takes, and the largest batch"
EXAMPLES = """\
  sitelora fit jobs/iat_prostate --data /data --site site-1     on the site's own cases
  sitelora fit jobs/iat_prostate                                on the drawn phantom, where there is no data
  sitelora fit jobs/iat_prostate --set batch_size=4 --set device=cpu
  sitelora fit jobs/iat_prostate --memory 8                     as if there were 8 GB
  sitelora fit jobs/iat_lungs --cases 500 --json fit.json       for a site of 500 training cases

A few real steps of the job's own trainer run in processes of their own, one for each batch and image size tried.
Exit code 0: it fits; 1: not as it is; 2: not even at batch 1, or it cannot be probed. Nothing is kept or sent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", type=Path, metavar="JOB", help="a job's folder")
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of the site folders (as configured)")
    parser.add_argument("--site", metavar="NAME", help="which of the job's sites this is (its first)")
    add_bundle_values(parser)
    parser.add_argument("--memory", type=_gigabytes, metavar="GB", help="memory that there is (what is free now)")
    parser.add_argument("--cases", type=positive, metavar="N", help="training cases of the site (as counted)")
    parser.add_argument("--quick", action="store_true", help="try two batches, and no other image size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"found {text}, expected gigabytes, for example 8 or 0.5")
    return value


def run(args: argparse.Namespace) -> int:
    """Probe and print the answer."""
    from sitelora.federation.job_folder import JobFolder

    job = JobFolder.read(args.job).job
    from sitelora.commands._fit_text import format_fit
    from sitelora.federation.files import write_json
    from sitelora.fitting.fit import fit
    from sitelora.typed_json import to_json

    found = fit(
        job,
        site=args.site or min(job.sites),
        data=args.data,
        values=as_overrides(args.values),
        memory_bytes=args.memory * 1e9 if args.memory else None,
        quick=args.quick,
        cases=args.cases,
        say=lambda text: print(f"{text} ...", file=sys.stderr, flush=True),
    )
    print(format_fit(found))
    if args.json is not None:
        write_json(args.json, to_json(found), private=False)
    return 0 if found.fits else 1
