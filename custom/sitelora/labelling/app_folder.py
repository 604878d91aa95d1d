"""The folder in which a MONAI Label server lives: what it starts from, its log, its sessions and its caches.

MONAI Label keeps sessions and caches, with images of patients in them, in the home folder of whoever starts it. Here
everything is in one folder that its owner alone may read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitelora.data.endings import VOLUMES
from sitelora.federation.files import new_file, private_folder, write_json
from sitelora.model_export.versions import Version

HOST = "127.0.0.1"
"""Nobody is asked who he is, so nobody else's machine may ask."""
MAIN = '''"""Written by `sitelora label` at every start; MONAI Label looks here for its app."""

from sitelora.labelling.torchvision_operators import let_torchvision_load

let_torchvision_load()

from sitelora.labelling.label_app import ServedModels  # noqa: E402, F401
'''
ROOT, MODELS = "models_root", "models"
"""Keys of the app's settings: the folder of exported bundles, and which of them, by commas."""


def caches(path: Path) -> dict[str, str]:
    """Return the variables that keep libraries' caches in a server's folder, which is made where it is not there.

    Some libraries look at them when they are imported, which judging a model does.

    Raises:
        DiskError: it cannot be made.
    """
    cache = private_folder(path.absolute() / "cache")
    return dict.fromkeys(("XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME"), str(cache))


@dataclass(frozen=True, kw_only=True)
class AppFolder:
    """Where a server lives and what it shows.

    Attributes:
        path: the folder. root: of the exported bundles. models: names of those that are shown.
        studies: the folder of images. port: on this machine.
    """

    path: Path
    root: Path
    models: tuple[str, ...]
    studies: Path
    port: int

    @classmethod
    def write(cls, path: Path, *, root: Path, models: Sequence[Version], studies: Path, port: int) -> AppFolder:
        """Write what a server starts from; what an earlier start has left of a log stays.

        Raises:
            DiskError: it cannot be written.
        """
        folder = cls(
            path=path.absolute(),
            root=root.absolute(),
            models=tuple(each.name for each in models),
            studies=studies.absolute(),
            port=port,
        )
        for name in ("logs", "sessions", "cache"):
            private_folder(folder.path / name)
        with new_file(folder.path / "main.py", needs=len(MAIN)) as temporary:
            temporary.write_text(MAIN, encoding="utf-8")
        write_json(folder.logging, _logging(folder.log))
        return folder

    @property
    def url(self) -> str:
        """What a viewer is given."""
        return f"http://{HOST}:{self.port}"

    @property
    def origins(self) -> list[str]:
        """Whose pages may ask: else any page that a reader has open in a browser could fetch images and masks."""
        return [self.url, f"http://localhost:{self.port}"]

    @property
    def log(self) -> Path:
        """What the server tells while it runs."""
        return self.path / "logs" / "server.log"

    @property
    def logging(self) -> Path:
        """How it tells it."""
        return self.path / "logging.json"

    @property
    def settings(self) -> dict[str, str]:
        """The app's own settings."""
        return {ROOT: str(self.root), MODELS: ",".join(self.models)}

    def environment(self, scratch: Path) -> dict[str, str]:
        """Return the variables that keep a server within this folder and on this machine.

        Args:
            scratch: a folder for what lasts as long as a request.
        """
        cache = str(self.path / "cache")
        return {
            "MONAI_LABEL_SESSION_PATH": str(self.path / "sessions"),
            "MONAI_LABEL_DATASTORE_CACHE_PATH": cache,
            "MONAI_LABEL_DICOMWEB_CACHE_PATH": cache,
            "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{ending}" for ending in VOLUMES]),
            "MONAI_LABEL_TRACKING_ENABLED": "false",
            "SITELORA_HOME": str(self.path),
            "TMPDIR": str(scratch),
            **caches(self.path),
        }


def _logging(file: Path) -> dict[str, Any]:
    """Return how MONAI Label and its web server log: into one file, anew at 10 MB, and nothing on the terminal."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "file": {
                "class": "logging.handlers.RotatingFileHandler",
                "formatter": "line",
                "filename": str(file),
                "backupCount": 3,
                "maxBytes": 10_000_000,
                "encoding": "utf-8",
            }
        },
        "root": {"level": "INFO", "handlers": ["file"]},
    }
