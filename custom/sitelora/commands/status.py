"""`sitelora status`: which runs are here, and where one of them stands."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sitelora.commands._terminal import one_line
from sitelora.report.format_values import columns

if TYPE_CHECKING:
    from sitelora.federation.run_status import RunStatus

HELP = "show which runs are here, or where one stands: who is in which round, since when, what is late"
EXAMPLES = """\
  sitelora status                                  every run here, the newest last
  sitelora status iat_prostate                     the newest run of that federation
  sitelora status 20261120-074512-1f00aa55 --json  a run by its uid, for a program
  watch sitelora status iat_prostate               follow it

Reads the run's folder and nothing else: during the run, after a crash, after its end. Late is an update that takes
longer than 3 times the median of the others (and 30 s), or a site at work without a sign of life for 10 minutes.
Exit code 0: running or finished; 1: stopped, failed or silent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "name", metavar="RUN", nargs="?", help="a run's folder, its uid, or a federation's name for its newest run"
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="where runs are kept (default: $SITELORA_HOME)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Show all runs, or one."""
    from dataclasses import asdict

    from sitelora.commands import CommandError
    from sitelora.commands.report import find_run
    from sitelora.federation.run_folder import RunFolder, runs_in
    from sitelora.federation.run_status import FINISHED, RUNNING, run_status
    from sitelora.home import home

    if args.name is not None:
        folder = find_run(args.name, args.home)
        if not RunFolder(folder).is_run():
            raise CommandError(
                f"{folder.absolute()} holds nothing that a run leaves, expected HOME/<federation>/<uid>; "
                "`sitelora status` lists the runs, --home or $SITELORA_HOME says where"
            )
        status = run_status(folder)
        print(json.dumps(asdict(status), indent=1) if args.json else one_run(status))
        return 0 if status.state in (RUNNING, FINISHED) else 1
    root = args.home or home()
    runs = [run_status(run.path) for run in sorted(runs_in(root), key=lambda run: run.uid)]
    if args.json:
        print(json.dumps([asdict(status) for status in runs], indent=1))
    else:
        print(all_runs(runs) if runs else f"no run in {root}; --home or $SITELORA_HOME names another place")
    return 0


def all_runs(runs: Sequence[RunStatus]) -> str:
    """Return one line a run."""
    now = time.time()
    rows = [["run", "state", "rounds", "last sign of life", "method", "data"]]
    for each in runs:
        done = f"{each.rounds_done} of {each.rounds_planned or '?'}"
        name = f"{each.federation}/{each.uid}"
        rows.append([name, each.state, done, ago(each.seen, now), each.method or "–", each.dataset or "–"])
    return table(rows)


def one_run(status: RunStatus) -> str:
    """Return what is known of one run: a verdict, one line a participant, how to go on."""
    now = time.time()
    planned = status.rounds_planned or "?"
    told = [f"method {status.method}"] * bool(status.method) + [f"data {status.dataset}"] * bool(status.dataset)
    lines = [" · ".join([f"{status.federation}/{status.uid}", *told])]
    lines.append(f"{status.state}: {status.rounds_done} of {planned} rounds done; {one_line(status.why)}")
    rows = [["who", "round", "doing", "since", "last sign of life"]]
    for each in status.participants:
        number = "–" if each.round_number is None or each.round_number < 0 else f"{each.round_number + 1} of {planned}"
        rows.append([each.who, number, each.doing, clock(each.since, now), ago(each.seen, now)])
    lines += ["", table(rows)] if len(rows) > 1 else []
    late = [f"late: {each.who}: {each.late}" for each in status.participants if each.late]
    lines += ["", *late] if late else []
    lines += ["", f"to go on: {status.go_on}"] if status.go_on else []
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns, with nothing in them that steers the terminal."""
    return "\n".join(columns([[one_line(cell) for cell in row] for row in rows]))


def clock(moment: float | None, now: float) -> str:
    """Return a time of day, with the day where it is not today."""
    if moment is None:
        return "–"
    then = time.localtime(moment)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def ago(moment: float | None, now: float) -> str:
    """Return how long ago something was."""
    if moment is None:
        return "never"
    seconds = max(0, round(now - moment))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
