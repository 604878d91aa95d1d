"""`sitelora job`: write a job folder, for `nvflare job submit` or for `sitelora simulate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sitelora.commands._values import add_bundle_values, add_wire, as_overrides, positive
from sitelora.federation.job import TRACKINGS
from sitelora.value_kinds import short

if TYPE_CHECKING:
    from sitelora.federation.job import Job

HELP = "write a job folder: what a federation is to do, as values and without any code"
EXAMPLES = """\
  sitelora job                                              list the jobs that there are
  sitelora job iat_prostate                                 write ./iat_prostate
  sitelora job iat_lungs --rounds 10 --set learning_rate=0.001 --out jobs
  sitelora job iat_prostate --sites hospital-1,hospital-2 --method fedsa_lora --set method#rank=4
  sitelora job iat_prostate --clip-norm 5 --noise-std 0.0005              for sites whose policy is strict
  sitelora job iat_prostate --up int8 --down int8                        half the bytes on the wire
  sitelora job iat_prostate --uid 20260101-120000-0a1b2c3d --resume      go on with a run, as a new job

The folder holds no app/custom, so that sites which allow no code in a job take it: they list two classes by full name.
NVFlare's bare simulator needs that folder: --simulator adds it. `sitelora simulate` takes both."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="which job; without it, they are listed")
    parser.add_argument("--rounds", type=positive, metavar="N", help="in place of the job's")
    parser.add_argument("--sites", type=_names, metavar="A,B", help="names of the sites, in place of the job's")
    parser.add_argument("--min-sites", type=positive, metavar="N", help="fewest updates that a round needs")
    parser.add_argument("--method", metavar="NAME", help="another method at the same rank: local, MODULE.FUNCTION")
    parser.add_argument(
        "--deadline",
        type=positive,
        metavar="S",
        help="seconds that a round waits for its sites; it goes on without the late ones where --min-sites are there",
    )
    add_bundle_values(parser)
    add_wire(parser)
    parser.add_argument("--no-evaluation", action="store_true", help="do not score the models after the last round")
    parser.add_argument(
        "--tracking", choices=TRACKINGS, help="where the server keeps the rounds' numbers beside its own record"
    )
    parser.add_argument("--uid", default="", help="name of the run (default: a new one when it begins)")
    parser.add_argument("--resume", action="store_true", help="go on after the last round that uid has written")
    parser.add_argument("--simulator", action="store_true", help="with app/custom, for NVFlare's bare simulator")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the folder goes (default: here)")


def _names(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"found {short(text)}, expected names, for example hospital-1,hospital-2")
    return found


def run(args: argparse.Namespace) -> int:
    """Write the job, or list all of them."""
    from sitelora.job_table import JOBS, find_job

    if args.name is None:
        for name in sorted(JOBS):
            job = find_job(name)
            print(f"{name:18} {job.bundle}, {job.rounds} rounds, sites {', '.join(job.sites)}")
        return 0
    from sitelora.commands import CommandError
    from sitelora.disk import OTHER_OUT, saying
    from sitelora.federation.job_folder import JobFolder, JobFolderError

    job = _asked(args, find_job(args.name))
    target = args.out / job.federation
    if target.exists():
        try:
            JobFolder.read(target)
        except JobFolderError as error:
            raise CommandError(f"{target} is there and is no job of SiteLoRA, so it stays: {error}") from error
    with saying(target, elsewhere=OTHER_OUT):
        print(JobFolder.write(job, target, marker=args.simulator).path)
    return 0


def _asked(args: argparse.Namespace, job: Job) -> Job:
    """Return the job with what the command says in place of its own."""
    from dataclasses import replace

    from sitelora.settings import changed_values, name_method

    if args.method:
        name_method(args.method)
    sites = args.sites or job.sites
    settings = changed_values(job.bundle, job.settings, as_overrides(args.values), method=args.method)
    federation = f"{settings['method'].rpartition('.')[2]}_{job.dataset}" if args.method else job.federation
    asked = replace(
        job,
        federation=federation,
        sites=sites,
        rounds=args.rounds or job.rounds,
        min_sites=args.min_sites or min(job.min_sites, len(sites)),
        uid=args.uid,
        resume=args.resume,
        train_timeout=args.deadline or job.train_timeout,
        tracking=args.tracking or job.tracking,
        evaluate=job.evaluate and not args.no_evaluation,
        clip_norm=job.clip_norm if args.clip_norm is None else args.clip_norm,
        noise_std=job.noise_std if args.noise_std is None else args.noise_std,
        noise_on=args.noise_on or job.noise_on,
        wire_up=args.up or job.wire_up,
        wire_down=args.down or job.wire_down,
        settings=settings,
    )
    return replace(asked, settings=dict(asked.run_settings().values))
