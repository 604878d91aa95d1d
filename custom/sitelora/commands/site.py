"""`sitelora site`: a participant's start-up kit: make, install, show, start, stop, renew."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sitelora.commands._values import positive

if TYPE_CHECKING:
    from sitelora.site_kit.startup_kit import StartupKit

HELP = "install, show, start, stop and renew a participant's start-up kit, as NVFlare provisions it"
EXAMPLES = """\
  sitelora site project --server fl.example.org --sites hospital-1,hospital-2 --admin a@x.org --lead l@x.org
  sitelora site install hospital-1 --home state --data data --bundle iat_segmentation --federation iat_prostate
  sitelora site install fl.example.org --home state        the server's kit
  sitelora site show hospital-1                            certificates, policy, what is not as installed
  sitelora site start hospital-1
  sitelora site stop hospital-1
  sitelora site why results/JOB                            why a job failed: a downloaded one, or a kit and its job_id
  sitelora site renew --project project.yml --workspace federation hospital-1
  sitelora site take hospital-1 renewed/hospital-1

docs/operations.md has the whole way. Exit code 1: show has something to say, or start is not ready yet."""

_NAMED = {
    "bundle": "bundles",
    "base": "bases",
    "federation": "federations",
    "dataset": "datasets",
    "evaluation_by": "evaluation_by",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    below = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    project = below.add_parser("project", help="write the project.yml for `nvflare provision`")
    project.add_argument("--name", default="sitelora", help="of the federation (sitelora)")
    project.add_argument(
        "--server", required=True, metavar="NAME", help="as all sites reach it; localhost: this machine"
    )
    project.add_argument(
        "--sites", required=True, metavar="A,B", help="names of the sites, and of their data's folders"
    )
    project.add_argument("--admin", required=True, metavar="NAME", help="who may do everything, with an @")
    project.add_argument("--lead", required=True, metavar="NAME", help="who submits jobs, with an @")
    project.add_argument("--port", type=positive, default=8002, help="of the server; the next one is used too (8002)")
    project.add_argument("--out", type=Path, default=Path("project.yml"), metavar="FILE", help="(project.yml)")
    _kit(below, "install", "write what a site or the server needs into its kit", _install_arguments)
    _kit(below, "show", "certificates, policy, and what is not as installed")
    start = _kit(below, "start", "start a site or the server in the background, with this Python")
    start.add_argument("--foreground", action="store_true", help="stay, as a service wants it")
    start.add_argument(
        "--patience", type=float, default=90, metavar="S", help="how long to wait until it is ready (90)"
    )
    stop = _kit(below, "stop", "stop it, and the job that runs there")
    stop.add_argument("--patience", type=float, default=30, metavar="S", help="after which processes are killed (30)")
    why = below.add_parser("why", help="why a job did not run, from a downloaded job or from a kit's log")
    why.add_argument("place", type=Path, metavar="FOLDER", help="what `nvflare job download` has written, or a kit")
    why.add_argument("job", nargs="?", default="", metavar="JOB", help="the job_id, for a kit")
    renew = below.add_parser("renew", help="make kits with new certificates under the same root, where they were made")
    renew.add_argument("names", nargs="+", metavar="NAME", help="sites, the server, people")
    renew.add_argument("--project", type=Path, required=True, metavar="FILE", help="the project.yml")
    renew.add_argument(
        "--workspace", type=Path, required=True, metavar="DIR", help="what `nvflare provision` had as -w"
    )
    take = _kit(below, "take", "put a renewed kit's certificates into one that is in use; all else stays")
    take.add_argument("handed", type=Path, metavar="RENEWED", help="the kit that was handed out")


def _kit(below: Any, name: str, text: str, more: Any = None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = below.add_parser(name, help=text)
    parser.add_argument("kit", type=Path, metavar="KIT", help="the kit's folder")
    if more:
        more(parser)
    return parser


def _install_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", type=Path, required=True, metavar="DIR", help="where runs and models are kept")
    parser.add_argument("--data", type=Path, metavar="DIR", help="root of the site folders, for a site")
    parser.add_argument("--level", metavar="NAME", help="of the policy: strict (a site's default), consortium, open")
    parser.add_argument("--bundle", action="append", metavar="NAME", help="that jobs may have; may be repeated")
    parser.add_argument("--base", action="append", metavar="SHA256", help="of a checkpoint to stand on, or embedded")
    parser.add_argument("--federation", action="append", metavar="NAME", help="that jobs may have; may be repeated")
    parser.add_argument("--dataset", action="append", metavar="NAME", help="likewise")
    parser.add_argument("--evaluation-by", action="append", metavar="NAME", help="whose jobs may score test cases")
    parser.add_argument("--device", metavar="NAME", help="on which the site trains, such as cuda:0")
    parser.add_argument("--force", action="store_true", help="replace what the site has written; it is kept beside")


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    done: int = globals()[f"_{args.what}"](args)
    return done


def _project(args: argparse.Namespace) -> int:
    from sitelora.commands import CommandError
    from sitelora.site_kit.project import write_project

    if args.out.exists():
        raise CommandError(f"{args.out} is there already, so it stays; name another with --out")
    sites = [part.strip() for part in args.sites.split(",") if part.strip()]
    names = {"name": args.name, "server": args.server, "admin": args.admin, "lead": args.lead}
    write_project(args.out, sites=sites, port=args.port, **names)
    print(f"{args.out}: server {args.server}, {len(sites)} sites, {args.admin} and {args.lead}")
    return 0


def _install(args: argparse.Namespace) -> int:
    from sitelora.commands import CommandError
    from sitelora.policy.site_policy import Policy
    from sitelora.policy.words import NOTHING_NAMED, rule_text, rules
    from sitelora.site_kit.install import install
    from sitelora.site_kit.site_files import OWN, own_file
    from sitelora.site_kit.startup_kit import SERVER, SITE, StartupKit

    kit = StartupKit.read(args.kit, SITE, SERVER)
    named = {rule: getattr(args, option) for option, rule in _NAMED.items() if getattr(args, option)}
    if kit.kind == SITE and (args.data is None or not args.data.is_dir()):
        raise CommandError(f"found no folder {args.data}, expected with --data the root of {kit.name}'s site folders")
    level = args.level or ("strict" if kit.kind == SITE or named else None)
    settings = {"device": args.device} if args.device else {}
    own = own_file(home=args.home, data=args.data, level=level, rules=named, settings=settings)
    for line in install(kit, own, force=args.force):
        print(f"  {line}")
    policy = Policy.read(kit.local / OWN)
    closed = [rule for rule in rules() if rule_text(policy, rule) == NOTHING_NAMED]
    if closed:
        print(f"no job is allowed yet: name {', '.join(closed)} in {kit.local / OWN}")
    data = args.data if kit.kind == SITE else None
    if data is not None:
        found = sorted(path.parent.name for path in data.glob(f"*/{kit.name}"))
        print(f"data of {kit.name} in {data}: {', '.join(found) or 'NONE; a site folder is DATASET/' + kit.name}")
    _certificates(kit)
    return 0


def _certificates(kit: StartupKit) -> list[str]:
    from sitelora.commands.status import table
    from sitelora.site_kit.certificates import require_pair

    both = [kit.leaf, kit.root]
    rows = [["certificate", "of", "issued by", "from", "to", "serial"]]
    for one in both:
        dates = [f"{date:%Y-%m-%d}" for date in (one.begins, one.ends)]
        rows.append([one.file.name, one.subject, one.issuer, *dates, one.serial])
    print(table(rows))
    require_pair(kit.leaf, kit.key, kit.root)
    warnings = [text for text in (one.warning() for one in both) if text]
    for text in warnings:
        print(f"WARNING: {text}; `sitelora site renew` makes a new one, where the kits were made")
    return warnings


def _show(args: argparse.Namespace) -> int:
    from sitelora.commands.policy import policy_table
    from sitelora.policy.site_policy import Policy
    from sitelora.site_kit.install import differences
    from sitelora.site_kit.processes import processes_of
    from sitelora.site_kit.site_files import OWN, read_file
    from sitelora.site_kit.startup_kit import PERSON, SITE, StartupKit

    kit = StartupKit.read(args.kit)
    running = len(processes_of(kit.path))
    print(f"{kit.kind} {kit.name}: {f'runs ({running} processes)' if running else 'does not run'}")
    wrong = _certificates(kit)
    if kit.kind == PERSON:
        return 1 if wrong else 0
    own = kit.local / OWN
    if own.is_file():
        content = read_file(own)
        told = {key: value for key, value in content.items() if key != "policy"}
        print(
            "".join(f"{key}: {value if isinstance(value, str) else json.dumps(value)}\n" for key, value in told.items())
        )
        if "policy" in content or kit.kind == SITE:
            print(policy_table(Policy.read(own)) + "\n")
    unlike = differences(kit)
    print("\n".join([f"not as `sitelora site install` writes it: {line}" for line in unlike] or ["as installed"]))
    return 1 if wrong or unlike else 0


def _start(args: argparse.Namespace) -> int:
    from sitelora.site_kit import processes
    from sitelora.site_kit.startup_kit import SERVER, SITE, StartupKit

    kit = StartupKit.read(args.kit, SITE, SERVER)
    for one in (kit.leaf, kit.root):
        if text := one.warning():
            print(f"WARNING: {text}")
    if args.foreground:
        processes.run(kit)
    if processes.start(kit, patience_s=args.patience):
        print(f"{kit.kind} {kit.name} is ready")
        return 0
    print(
        f"{kit.kind} {kit.name} has started and is not ready after {args.patience:g} s; it goes on trying. "
        f"{kit.path / 'log.txt'} and start.log say why; is the server up, and its ports open?"
    )
    return 1


def _stop(args: argparse.Namespace) -> int:
    from sitelora.site_kit import processes
    from sitelora.site_kit.startup_kit import SERVER, SITE, StartupKit

    kit = StartupKit.read(args.kit, SITE, SERVER)
    there, killed = processes.stop(kit, patience_s=args.patience)
    how = f"{there} processes ended" + (f", {killed} of them killed" if killed else "")
    print(f"{kit.kind} {kit.name}: {how if there else 'nothing ran'}")
    return 0


def _why(args: argparse.Namespace) -> int:
    from sitelora.commands._terminal import one_line
    from sitelora.site_kit.why import reasons

    found = reasons(args.place, args.job)
    lines = [one_line(line) for text in found for line in text.splitlines()]
    print("\n".join(lines or ["nothing there says why"]))
    return 0 if found else 1


def _renew(args: argparse.Namespace) -> int:
    from sitelora.commands.status import table
    from sitelora.site_kit.renew import renew

    made = renew(project=args.project, workspace=args.workspace, names=args.names)
    rows = [["participant", "old serial", "new serial", "valid to", "kit"]]
    rows += [
        [one.kit.name, one.old.serial, one.new.serial, f"{one.new.ends:%Y-%m-%d}", str(one.kit.path)] for one in made
    ]
    print(table(rows))
    print("hand each kit to its participant, who takes it with `sitelora site take KIT RENEWED`")
    return 0


def _take(args: argparse.Namespace) -> int:
    from sitelora.site_kit.install import make_private
    from sitelora.site_kit.renew import STARTUP_BEFORE, take
    from sitelora.site_kit.startup_kit import StartupKit

    kit = StartupKit.read(args.kit)
    take(kit, StartupKit.read(args.handed))
    make_private(kit)
    print(f"{kit.path}: the new certificate is in startup/, the older one in {STARTUP_BEFORE}/; all else is as it was")
    _certificates(kit)
    return 0
