"""`sitelora policy`: what a site's policy allows, and what it would do with a job."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sitelora.commands._values import add_policy, policy_of

if TYPE_CHECKING:
    from sitelora.policy.site_policy import Policy

HELP = "show what a site's policy allows, or say what it would do with a job, rule by rule"
EXAMPLES = """\
  sitelora policy show                                              the three shipped levels beside each other
  sitelora policy show --policy local/sitelora.json                 what one site allows
  sitelora policy check jobs/iat_prostate --level consortium        what a level would do with a job
  sitelora policy check iat_prostate --policy local/sitelora.json --submitter lead@sitelora.example

A site's file holds {"policy": {"level": "strict", "bundles": ["iat_segmentation"], ...}}; what it does not say is as
the level has it. A site without one is at the level open. Exit code 0: allowed; 1: refused; 2: not possible."""

SHOW, CHECK = "show", "check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    below = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    show = below.add_parser(SHOW, help="what the levels allow, or one site")
    check = below.add_parser(CHECK, help="what a policy would do with a job")
    check.add_argument("job", type=Path, metavar="JOB", help="a job folder")
    check.add_argument("--submitter", default="", metavar="NAME", help="who would submit it, as NVFlare knows her")
    check.add_argument("--json", action="store_true", help="print JSON")
    for one in (show, check):
        add_policy(one)


def run(args: argparse.Namespace) -> int:
    """Show, or judge."""
    return _show(args) if args.what == SHOW else _check(args)


def _policy(args: argparse.Namespace) -> Policy:
    from sitelora.commands import CommandError

    policy = policy_of(args)
    if policy is None:
        raise CommandError("found neither --policy FILE nor --level NAME; expected one: whose policy is it to be?")
    return policy


def _show(args: argparse.Namespace) -> int:
    from sitelora.commands.status import table
    from sitelora.policy.words import level_table

    if args.policy is None and args.level is None:
        print(table(level_table()))
    else:
        print(policy_table(_policy(args)))
    return 0


def policy_table(policy: Policy) -> str:
    """Return what a policy allows, a line a rule."""
    from sitelora.commands.status import table
    from sitelora.policy.words import rule_text, rules

    changed = policy.changed()
    rows = [["rule", "allows", ""]]
    rows += [[name, rule_text(policy, name), "the site's own" if name in changed else ""] for name in rules()]
    return f"level {policy.level}\n{table(rows)}"


def _check(args: argparse.Namespace) -> int:
    from sitelora.commands import CommandError
    from sitelora.policy.desk import judge_folder, judged_at_the_site

    if not args.job.is_dir():
        raise CommandError(f"found no folder {args.job}, expected a job folder; `sitelora job NAME` writes one")
    policy = _policy(args)
    reasons = judge_folder(args.job, policy, submitter=args.submitter)
    left = judged_at_the_site(args.job, policy)
    if args.json:
        told = [{"rule": one.rule, "found": one.text} for one in reasons]
        answer = {"job": args.job.name, "level": policy.level, "allowed": not reasons, "reasons": told}
        print(json.dumps({**answer, "judged_at_the_site": left}, indent=1))
        return 1 if reasons else 0
    print(f"{args.job}: {'refused' if reasons else 'allowed'} (level {policy.level})")
    for one in reasons:
        print(f"  {one}")
    if left:
        allowed = ", ".join(policy.bases or ()) or "none"
        print(f"  bases: the site compares its base's file when it begins, which a desk cannot; allowed: {allowed}")
    return 1 if reasons else 0
