"""`sitelora label`: exported models in MONAI Label, on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HELP = "serve exported models to 3D Slicer by MONAI Label, on this machine alone and without the internet"
EXAMPLES = """\
  sitelora label exported --studies studies                   every model that is served of its line
  sitelora label exported --studies studies --port 8001
  sitelora label exported --studies studies --model iat_prostate_site-1_20261126_segmentation

Ctrl-C stops it. Every model is judged before anything starts: one that is partial, of another size or changed since its
export is refused. `sitelora models exported --serve VERSION` goes back to an older version while it runs.
It needs MONAI Label, which has an environment of its own: `make label MODELS=exported STUDIES=studies` does it all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder of exported bundles")
    parser.add_argument("--studies", type=Path, required=True, metavar="DIR", help="a folder of NIfTI images")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="a bundle in DIR, may be given several times (default: what is served of every line)",
    )
    parser.add_argument("--port", type=_port, default=8000, metavar="N", help="on this machine (default: 8000)")
    parser.add_argument(
        "--app", type=Path, metavar="DIR", help="where its log and caches are kept (default: DIR/.label)"
    )


def run(args: argparse.Namespace) -> int:
    """Judge the models, start the server and wait for its end."""
    from sitelora.commands import CommandError
    from sitelora.labelling.app_folder import AppFolder, caches

    for path, what in ((args.studies, "NIfTI images"), (args.folder, "exported models")):
        if not path.is_dir():
            raise CommandError(f"{path} is no folder; name the one that holds the {what}")
    place = args.app or args.folder / ".label"
    os.environ.update(caches(place))  # before anything is imported that looks for them
    from sitelora.labelling.as_exported import choose
    from sitelora.labelling.server import require_free, require_label
    from sitelora.labelling.server import run as serve

    chosen = choose(args.folder, args.model)
    require_label()
    require_free(args.port)
    app = AppFolder.write(
        place,
        root=args.folder,
        models=chosen.models,
        studies=args.studies,
        port=args.port,
    )
    terminal = sys.stdout

    def ready() -> None:
        from sitelora.commands._terminal import shown
        from sitelora.commands.status import table

        rows = [[each.name, f"site {each.told['site']}", each.told["date"], each.score_text] for each in chosen.models]
        said = [f"MONAI Label is at {app.url}", table(rows), *chosen.passed_over]
        said.append(f"images: {app.studies}; log: {app.log}; Ctrl-C stops it")
        print(shown("\n".join(said)), file=terminal, flush=True)

    serve(app, ready)
    print("stopped", file=terminal)
    return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1024 <= int(text[:9]) <= 65535:
        raise argparse.ArgumentTypeError(f"found {text!r:.40}, expected a whole number from 1024 to 65535")
    return int(text)
