"""`sitelora audit`: whether a site's audit log is whole, what left by round, and whether the server has the same."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitelora.federation.audit_report import AuditReport
    from sitelora.federation.run_folder import RunFolder

HELP = "verify a site's audit log: a line that is gone, changed or repeated, what left by round, what the server has"
EXAMPLES = """\
  sitelora audit verify iat_prostate                     every site that this machine has of that run
  sitelora audit verify iat_prostate --site site-1 --manifest site-1.json
  sitelora audit manifest iat_prostate --site site-1 > site-1.json        at the server, for the people of site-1

The manifest is what the server has accepted of one site, as hashes. Nothing exchanges it by itself: the server's people
hand it out, the site's people compare. Exit code 0: sound; 1: something is wrong; 2: not possible."""

VERIFY, MANIFEST = "verify", "manifest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    below = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    verify = below.add_parser(VERIFY, help="whether a log is whole")
    manifest = below.add_parser(MANIFEST, help="what the server has of a site")
    for one in (verify, manifest):
        one.add_argument("name", metavar="RUN", help="a run's folder, its uid, or a federation's name for its newest")
        one.add_argument("--home", type=Path, metavar="DIR", help="where runs are kept (default: $SITELORA_HOME)")
    verify.add_argument("--site", metavar="NAME", help="this site only")
    verify.add_argument("--secret", type=Path, metavar="FILE", help="the site's secret (default: of the run's home)")
    verify.add_argument("--manifest", type=Path, metavar="FILE", help="what the server says that it has of the site")
    verify.add_argument("--json", action="store_true", help="print JSON")
    manifest.add_argument("--site", metavar="NAME", required=True, help="of which site")


def run(args: argparse.Namespace) -> int:
    """Verify, or print what the server has."""
    from sitelora.commands._terminal import shown
    from sitelora.commands.report import find_run
    from sitelora.federation.receipts import manifest_for
    from sitelora.federation.run_folder import RunFolder

    found = RunFolder(find_run(args.name, args.home))
    if args.what == MANIFEST:
        print(json.dumps(manifest_for(found, args.site), indent=1))
        return 0
    reports = _reports(args, found)
    if args.json:
        told = {site: [_told(one) for one in each] for site, each in reports.items()}
        print(json.dumps(told, indent=1))
    else:
        print(shown("\n\n".join(_words(site, one) for site, each in reports.items() for one in each)))
    return 1 if any(one.problems for each in reports.values() for one in each) else 0


def _reports(args: argparse.Namespace, found: RunFolder) -> dict[str, list[AuditReport]]:
    from sitelora.commands import CommandError
    from sitelora.federation.audit_report import audit_report, last_log
    from sitelora.federation.identity import secret_file
    from sitelora.federation.receipts import read_manifest
    from sitelora.federation.run_folder import AUDIT, POLICY, SERVER
    from sitelora.sharing.audit import seal_beside

    logs = (AUDIT, seal_beside(Path(AUDIT)).name)
    here = sorted({path.parent.name for name in logs for path in found.path.glob(f"*/{name}")} - {SERVER})
    sites = [args.site] if args.site else here
    if not sites:
        raise CommandError(f"{found.path} holds no site's audit log; expected one at a site that took part in the run")
    manifest = None
    if args.manifest is not None:
        if len(sites) != 1:
            raise CommandError(f"a manifest is of one site and there are {', '.join(sites)}; say which with --site")
        manifest = read_manifest(json.loads(args.manifest.read_bytes()))
    file = args.secret or secret_file(found.path.absolute().parents[1])
    if args.secret is not None and not args.secret.is_file():
        raise CommandError(f"found no {args.secret}, expected the site's secret, <home>/secret")
    secret = file.read_bytes() if file.is_file() else None
    reports: dict[str, list[AuditReport]] = {}
    for site in sites:
        last = last_log(found, site)
        for log in (AUDIT, POLICY) if last == POLICY else (AUDIT,):
            compared = manifest if log == last else None
            reports.setdefault(site, []).append(audit_report(found, site, log=log, secret=secret, manifest=compared))
    return reports


def _told(report: AuditReport) -> dict[str, object]:
    from sitelora.typed_json import to_json

    return {"sound": not report.problems, **to_json(report)}


def _words(site: str, report: AuditReport) -> str:
    from sitelora.commands.status import table

    rows = [["round", "answers", "tensors", "bytes", "last at", "sha256"]]
    for number, answers in report.by_round().items():
        last = answers[-1]
        shown = [str(len(answers)), str(last.tensors), f"{last.bytes:,}", last.time, last.packet_sha256[:12]]
        rows.append(["begin" if number < 0 else str(number), *shown])
    lines = [f"{site}, {report.log}: {'sound' if not report.problems else 'NOT SOUND'}", table(rows)]
    lines += [f"  problem: {one}" for one in report.problems] + [f"  note: {one}" for one in report.notes]
    return "\n".join(lines)
