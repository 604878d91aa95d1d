"""Run MONAI Label's server in this process until it is stopped; needs the environment of `make label`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket as sockets
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sitelora.labelling.app_folder import HOST, AppFolder
from sitelora.labelling.as_exported import NotServedError

PROGRAM = "monailabel.app:app"
_PATIENCE_S = 5
"""For requests that run while the server is stopped."""


def require_label() -> None:
    """Judge whether MONAI Label is in this environment.

    Raises:
        NotServedError: it is not; says how to get it.
    """
    if find_spec("monailabel") is None:
        raise NotServedError(
            f"MONAI Label is not in this environment ({sys.prefix}), and it has one of its own, as it needs older "
            "packages: `make label MODELS=DIR STUDIES=DIR` in a checkout makes it in .venv-label and starts it"
        )


def require_free(port: int) -> None:
    """Judge whether a port can be taken.

    Raises:
        NotServedError: another server has it.
    """
    with sockets.socket() as probe:
        probe.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise NotServedError(f"port {port} cannot be taken ({error.strerror}): name another with --port") from error


def run(app: AppFolder, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; nothing is left running.

    Args:
        app: written. ready: called once, when the first request can come.

    Raises:
        NotServedError: the server did not start; names the log.
    """
    with (
        tempfile.TemporaryDirectory(dir=app.path, prefix="requests-") as scratch,
        app.log.open("a", encoding="utf-8", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        contextlib.chdir(app.path),  # MONAI Label reads a .env of the folder that it is started in
    ):
        os.environ.update(app.environment(Path(scratch)))
        tempfile.tempdir = None  # it was asked for before
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        server = _server(app, ready)
        try:
            server.run()
        except KeyboardInterrupt:  # the web server has ended, and hands on what ended it
            return
        except SystemExit:  # it has told its log why it cannot start
            pass
    if not server.was_ready:
        raise NotServedError(f"MONAI Label did not start; the reason is at the end of {app.log}")


def _server(app: AppFolder, ready: Callable[[], None]) -> Any:
    """Return the web server with MONAI Label's settings made."""
    from sitelora.labelling.torchvision_operators import let_torchvision_load

    let_torchvision_load()
    import uvicorn
    from monailabel.config import settings
    from monailabel.main import Main

    class Server(uvicorn.Server):
        was_ready = False

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started and not self.should_exit:
                self.was_ready = True
                ready()

    settings.MONAI_LABEL_CORS_ORIGINS = app.origins  # as texts: MONAI Label cannot write addresses as JSON
    Main().start_server_init_settings(
        Namespace(
            app=str(app.path),
            studies=str(app.studies),
            port=app.port,
            conf=[[key, value] for key, value in app.settings.items()],
            dryrun=False,
        )
    )
    return Server(
        uvicorn.Config(
            PROGRAM,
            host=HOST,
            port=app.port,
            log_config=str(app.logging),
            access_log=False,
            timeout_graceful_shutdown=_PATIENCE_S,
        )
    )
