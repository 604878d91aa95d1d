"""`sitelora report`: one run as one HTML page, and as a table on the terminal."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

HELP = "write the report of a run: one self-contained HTML page, its numbers as JSON, its plots as PNG"
EXAMPLES = """\
  sitelora report iat_prostate                          the newest run of that federation
  sitelora report 20261120-074512-1f00aa55 -o report    a run by its uid
  sitelora report ~/.sitelora/iat_prostate/20261120-074512-1f00aa55 --open
  sitelora report iat_prostate --beside local_prostate  with every site's local model beside it
  sitelora report iat_prostate --picture run.png        also one wide picture, for a README or a slide"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "name", metavar="RUN", help="a run's folder, its uid, or a federation's name for its newest run"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="where to write (default: RUN/report)")
    parser.add_argument(
        "--beside",
        metavar="RUN",
        help="a second run to compare with, usually the same job with method local; named like RUN",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw one wide PNG of the run")
    parser.add_argument("--home", type=Path, metavar="DIR", help="where runs are kept (default: $SITELORA_HOME)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(args: argparse.Namespace) -> int:
    """Write the report and show its summary."""
    from sitelora.commands import CommandError

    if find_spec("jinja2") is None:
        raise CommandError("Jinja2 is not installed here, and only a report needs it: pip install 'sitelora[report]'")
    from sitelora.commands._terminal import shown
    from sitelora.federation.run_folder import RunFolder
    from sitelora.report.compare_two_runs import with_beside
    from sitelora.report.page import build_report
    from sitelora.report.results import read_run
    from sitelora.report.text import summary_text

    if args.picture is not None and args.picture.suffix.lower() != ".png":
        raise CommandError(f"--picture {args.picture} does not end in .png: the picture is a PNG, name it so")
    folder = find_run(args.name, args.home)
    beside = None if args.beside is None else find_run(args.beside, args.home)
    page = build_report(folder, args.out or RunFolder(folder).report, beside=beside).absolute()
    run = read_run(folder)
    run = run if beside is None else with_beside(run, read_run(beside))
    print(shown(summary_text(run)))
    if args.picture is not None:
        from sitelora.disk import saying
        from sitelora.report.picture import demo_picture

        picture = demo_picture(run)
        with saying(args.picture, elsewhere="name with --picture a file"):
            args.picture.parent.mkdir(parents=True, exist_ok=True)
            args.picture.write_bytes(picture)
        print(f"\n{args.picture.absolute()}")
    print(f"\n{page}")
    if args.open:
        import webbrowser

        webbrowser.open(page.as_uri())
    return 0


def find_run(name: str, home_folder: Path | None = None) -> Path:
    """Return a run's folder by path, by uid, or by the name of its federation (its newest run).

    Raises:
        CommandError: nothing of that name; says what there is.
    """
    from sitelora.commands import CommandError
    from sitelora.federation.run_folder import runs_in
    from sitelora.home import home

    if Path(name).is_dir():
        return Path(name)
    root = home_folder or home()
    runs = sorted((run.path for run in runs_in(root)), key=lambda path: path.name)
    found = [path for path in runs if name in (path.name, path.parent.name, f"{path.parent.name}/{path.name}")]
    if found:
        return found[-1]
    known = ", ".join(f"{path.parent.name}/{path.name}" for path in runs[-5:]) or "none"
    raise CommandError(
        f"found no folder {name!r} and no run of that uid or federation in {root}; the newest runs there: {known}. "
        "Give a run's folder, its uid or its federation, or say --home"
    )
