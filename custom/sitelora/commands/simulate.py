"""`sitelora simulate`: a job in NVFlare's own simulator, followed live, judged, and reported."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from sitelora.commands import CommandError
from sitelora.commands._values import add_bundle_values, as_overrides, from_here, positive

HELP = "run a job folder in NVFlare's simulator on this machine, and say truly whether it worked"
EXAMPLES = """\
  sitelora simulate jobs/iat_prostate                       draws the phantom when there is no data
  sitelora simulate jobs/iat_prostate --rounds 2 --set learning_rate=0.001 --report report
  sitelora simulate jobs/iat_prostate --method local        the same job without sharing, to compare with
  sitelora simulate jobs/iat_lungs --data data --home state
  sitelora simulate jobs/iat_prostate --gpu 0,1             sites in turn on two GPUs; without it all share one
  sitelora simulate jobs/iat_prostate --resume              go on with the last unfinished run, whatever ended it

Ctrl-C ends every process, and the same command goes on after the last round that was written; --new begins anew.
State goes to HOME/<federation>/<uid>. NVFlare empties its workspace; the state is elsewhere and survives.
Exit code 0: every round, every site, no error logged; 1: something of that is not so, with what and where."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", type=Path, metavar="JOB", help="a job folder, for example jobs/iat_prostate")
    parser.add_argument("--home", type=Path, metavar="DIR", help="where state is kept (default: $SITELORA_HOME)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of the data (default: $SITELORA_DATA)")
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="NVFlare's folder (default: in the run's folder)")
    parser.add_argument("--threads", type=positive, metavar="N", help="sites that work at once (default: all)")
    parser.add_argument(
        "--gpu", metavar="IDS", help="CUDA devices for NVFlare to deal out to the sites: 0, or 0,1, or [0,1],[2]"
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="rounds, in place of the job's")
    add_bundle_values(parser)
    parser.add_argument("--method", metavar="NAME", help="another method at the same rank: local, MODULE.FUNCTION")
    parser.add_argument("--uid", help="name of the run (default: a new one)")
    parser.add_argument("--resume", action="store_true", help="go on after the last round that was written")
    parser.add_argument("--new", action="store_true", help="begin a new run even where the same one was stopped")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write the report there afterwards")
    parser.add_argument("--quiet", action="store_true", help="show no progress, only what came of it")


def run(args: argparse.Namespace) -> int:
    """Run the job and judge it."""
    if find_spec("nvflare") is None:
        raise CommandError(
            "NVFlare is not installed here, and only taking part in a federation needs it: "
            "pip install 'sitelora[federation]'"
        )
    from sitelora.federation.run_folder import RunFolder
    from sitelora.settings import name_method
    from sitelora.simulator.simulate import simulate

    if args.method:
        name_method(args.method)
    _require_data(args)
    done = simulate(
        args.job,
        workspace=args.workspace,
        home=args.home,
        data=args.data,
        threads=args.threads,
        gpus=args.gpu,
        rounds=args.rounds,
        overrides=from_here(as_overrides(args.values)),
        method=args.method,
        uid=args.uid,
        resume=args.resume,
        new=args.new,
        progress=not args.quiet,
    )
    if RunFolder(done.run_folder).result.is_file() and not done.interrupted:
        _tell(done.run_folder, args.report)
    if done.ok:
        print(f"\nDone, with nothing wrong. State: {done.run_folder}")
        return 0
    for problem in done.problems:
        print(f"sitelora simulate: {problem}", file=sys.stderr)
    print(f"sitelora simulate: what NVFlare printed: {done.log}", file=sys.stderr)
    return 130 if done.interrupted else 1


def _require_data(args: argparse.Namespace) -> None:
    """Refuse a job whose sites have no data here, before a process is started; the phantom is drawn where it may be.

    Raises:
        CommandError: names every site without data.
    """
    from sitelora.data.site_folder import WITH_PHANTOM, without_data
    from sitelora.federation.job_folder import JobFolder
    from sitelora.home import DATA_VARIABLE, data_root

    job = JobFolder.read(args.job).job
    chosen = args.data or os.environ.get(DATA_VARIABLE)
    if job.dataset in WITH_PHANTOM and not chosen:
        return
    root = args.data or (args.home / "data" if args.home and not chosen else data_root())
    if missing := without_data(job.dataset, job.sites, root):
        raise CommandError("\n  ".join(["nothing was started:", *missing]))


def _tell(run_folder: Path, report: Path | None) -> None:
    """Show the summary of a run and write its report where one is wanted."""
    from sitelora.report.results import read_run
    from sitelora.report.text import summary_text

    print()
    print(summary_text(read_run(run_folder)))
    if report is not None:
        from sitelora.report.page import build_report

        print(f"\nReport: {build_report(run_folder, report).absolute()}")
