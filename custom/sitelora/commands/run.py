"""`sitelora run`: a job at a running federation, from its submission to its result, whatever dies on the way."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sitelora.commands import CommandError
from sitelora.commands._terminal import one_line
from sitelora.commands._values import positive

if TYPE_CHECKING:
    from sitelora.federation.job import Job

HELP = "submit a job to a running federation, follow it, go on with it when a process died, fetch the result"
EXAMPLES = """\
  sitelora run iat_prostate --kit lead@sitelora.example --out results
  sitelora run j/iat_prostate --kit lead@sitelora.example     a folder that `sitelora job` wrote

KIT is the startup kit of a lead or an administrator, as `nvflare provision` made it. One line is shown a change. Where
a process of the server or of a site dies, NVFlare ends the job: the same run is submitted again, once its sites are
back, and goes on after the last round that is written. Ctrl-C leaves the job running.
Exit code 0: the record of the run says that all rounds are done; 1: it does not; 2: it could not be submitted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", metavar="JOB", help="a job folder, or the name of a job as in `sitelora job`")
    parser.add_argument("--kit", type=Path, metavar="DIR", required=True, help="a lead's startup kit")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the result goes (default: here)")
    parser.add_argument("--uid", help="name of the run (default: the job's, else a new one)")
    parser.add_argument("--resume", action="store_true", help="go on after the last round that uid has written")
    parser.add_argument("--retries", type=int, default=3, metavar="N", help="how often to submit again (default: 3)")
    parser.add_argument(
        "--patience",
        type=positive,
        default=900,
        metavar="S",
        help="seconds to wait for a server or sites that are away (default: 900)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the job to its end."""
    if find_spec("nvflare") is None:
        raise CommandError("NVFlare is not installed here: pip install 'sitelora[federation]'")
    from dataclasses import replace

    from sitelora.flare.lead import Lead
    from sitelora.flare.run_job import JobRun

    job, marker = _job_of(args.job)
    job = replace(job, uid=args.uid or job.uid, resume=args.resume or job.resume)
    lead = Lead(args.kit)
    one = JobRun(
        lead,
        job,
        marker=marker,
        out=args.out,
        retries=max(0, args.retries),
        patience_s=args.patience,
        tell=lambda line: print(one_line(line), flush=True),
    )
    try:
        with _quiet(debug=args.debug):
            outcome = one.run()
    except KeyboardInterrupt:
        if one.job_id:
            kit = f"--startup-kit {lead.kit}"
            print(
                f"\nThe job goes on without you.\n  watch it: nvflare job wait {one.job_id} {kit}\n"
                f"  end it:   nvflare job abort {one.job_id} {kit}\n"
                f"  fetch it: nvflare job download {one.job_id} -o {args.out} {kit}\n"
                f"If a process of it dies: sitelora run {args.job} --kit {args.kit} --uid {one.uid} --resume",
                file=sys.stderr,
            )
        raise
    finally:
        lead.close()
    where = f" Result: {outcome.folder}" if outcome.folder else ""
    if outcome.completed:
        print(f"Done: {outcome.why}, in {outcome.attempts} attempts, run {job.federation}/{outcome.uid}.{where}")
        return 0
    print(f"sitelora run: not done, run {job.federation}/{outcome.uid}: {outcome.why}", file=sys.stderr)
    print(f"sitelora run: to go on later: --uid {outcome.uid} --resume.{where}", file=sys.stderr)
    return 1


@contextlib.contextmanager
def _quiet(*, debug: bool) -> Iterator[None]:
    """Keep NVFlare's log out of the lines while a server is away: what it means is said in one of them."""
    before = logging.root.manager.disable
    logging.disable(before if debug else logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _job_of(name: str) -> tuple[Job, bool]:
    """Return the job of a folder or of a name, and whether it has the folder that NVFlare counts as code."""
    from sitelora.federation.job_folder import APP, JobFolder
    from sitelora.job_table import find_job

    path = Path(name)
    if path.exists() or "/" in name:
        return JobFolder.read(path).job, (path / APP / "custom").is_dir()
    return find_job(name), False
