"""Where a site keeps its state and its data: the environment, else the site's own file, else a default."""

from __future__ import annotations

import json
import os
from pathlib import Path

HOME_VARIABLE = "SITELORA_HOME"
DATA_VARIABLE = "SITELORA_DATA"


def home(config: Path | None = None) -> Path:
    """Return the folder of everything SiteLoRA keeps at this site.

    ``$SITELORA_HOME``, else ``"home"`` in the site's configuration file, else ``~/.sitelora``.

    Args:
        config: a JSON file of the site (never of a job) with the optional keys ``home`` and ``data``.

    Raises:
        ValueError: the configuration file is missing, is not a JSON object or holds something else.
    """
    return _resolve(HOME_VARIABLE, "home", config) or Path("~/.sitelora").expanduser()


def data_root(config: Path | None = None) -> Path:
    """Return the folder that holds ``<dataset>/<site>`` folders.

    ``$SITELORA_DATA``, else ``"data"`` in the site's configuration file, else ``<home>/data``.

    Raises:
        ValueError: as for :func:`home`.
    """
    return _resolve(DATA_VARIABLE, "data", config) or home(config) / "data"


def _resolve(variable: str, key: str, config: Path | None) -> Path | None:
    settings = _read(config) if config is not None else {}
    value = os.environ.get(variable) or settings.get(key)
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_absolute() and variable not in os.environ and config is not None:
        path = config.parent / path  # a relative path in a file means "beside this file"
    return path.absolute()


def _read(config: Path) -> dict[str, str]:
    try:
        settings = json.loads(config.read_bytes())  # bytes: a byte order mark is no error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"site configuration {config}: {error}; expected a JSON object with the optional keys "
            f'"home" and "data"; write it or leave it out and set {HOME_VARIABLE} and {DATA_VARIABLE}'
        ) from error
    keys = {"home", "data"}
    if not isinstance(settings, dict) or set(settings) - keys or not all(isinstance(v, str) for v in settings.values()):
        found = sorted(settings) if isinstance(settings, dict) else type(settings).__name__
        raise ValueError(
            f"site configuration {config}: found {found}, expected a JSON object with no other keys than "
            f"{sorted(keys)}, each a folder as a string; correct the file"
        )
    return settings
