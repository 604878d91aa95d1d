"""`sitelora privacy`: one page for an ethics board on what a job takes from a hospital, and what protects it."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from sitelora.commands._values import add_policy, policy_of

if TYPE_CHECKING:
    from sitelora.federation.job import Job

HELP = "write one page for an ethics board: what a job takes from a hospital, what stays, and what protects it"
EXAMPLES = """\
  sitelora privacy jobs/iat_prostate                                      Markdown, on the terminal
  sitelora privacy iat_prostate --out privacy.md                          of a job that ships
  sitelora privacy jobs/iat_prostate --policy local/sitelora.json         with what this hospital allows
  sitelora privacy jobs/iat_prostate --level strict --submitter lead@sitelora.example
  sitelora privacy --spent                                                at a hospital: epsilon of all that left so far

It reads the job and the installed bundle; no data is needed and nothing is trained. What a policy would refuse is on
the page. Exit code 0: written; 2: not possible."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", nargs="?", metavar="JOB", help="a job folder, or the name of a job that ships")
    parser.add_argument(
        "--spent", action="store_true", help="in place of a page: what left from here is worth, by data"
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="where state is kept (default: $SITELORA_HOME)")
    add_policy(parser)
    parser.add_argument("--submitter", default="", metavar="NAME", help="who would submit it, as NVFlare knows her")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it here (default: print it)")
    parser.add_argument("--json", action="store_true", help="the same facts as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the page, or say what was spent."""
    from sitelora.commands import CommandError

    if args.spent:
        return _spent(args)
    if args.job is None:
        raise CommandError("found no JOB; expected a job folder or the name of a job that ships, or --spent")
    from sitelora.commands._privacy_page import facts, page
    from sitelora.egress import egress_statement
    from sitelora.policy.judge import judge_values

    job, policy = _job(args.job), policy_of(args)
    statement = egress_statement(job.bundle, job.settings, rounds=job.rounds, sites=len(job.sites), wire=job.wire)
    reasons = [] if policy is None else judge_values(job, policy, submitter=args.submitter)
    told = facts(job, statement, policy, reasons)
    text = json.dumps(told, indent=1) + "\n" if args.json else page(told)
    if args.out is None:
        print(text, end="")
    else:
        from sitelora.disk import OTHER_OUT_FILE, saying

        with saying(args.out, elsewhere=OTHER_OUT_FILE):
            args.out.write_text(text, encoding="utf-8")
        print(args.out)
    return 0


def _spent(args: argparse.Namespace) -> int:
    from sitelora.commands import CommandError
    from sitelora.commands.status import table
    from sitelora.federation.identity import secret_file
    from sitelora.guarantee import DELTA, epsilon_text
    from sitelora.home import home
    from sitelora.sharing.accounting import epsilon
    from sitelora.sharing.ledger import ledgers_in

    root = args.home or home()
    file = secret_file(root)
    found = ledgers_in(root, file.read_bytes()) if file.is_file() else {}
    if not found:
        raise CommandError(f"found no ledger epsilon.SITE.jsonl in {root}; a site writes one with its first update")
    rows: list[dict[str, object]] = []
    lines = [["site", "data set", "releases", f"epsilon (delta {DELTA:g})"]]
    for site, ledgers in found.items():
        for one in ledgers:
            left = one.spent()
            count, value = sum(each.count for each in left), epsilon(left)
            finite = value if math.isfinite(value) else None
            rows.append({"site": site, "dataset": one.dataset, "releases": count, "epsilon": finite})
            lines.append([site, one.dataset, str(count), epsilon_text(value)])
    print(json.dumps({"delta": DELTA, "spent": rows}, indent=1) if args.json else table(lines))
    return 0


def _job(name: str) -> Job:
    from sitelora.federation.job import JOB_FILE, Job
    from sitelora.federation.job_folder import APP
    from sitelora.job_table import find_job

    folder = Path(name)
    return Job.read(folder / APP / "config" / JOB_FILE) if folder.is_dir() else find_job(name)
