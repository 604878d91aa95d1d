"""Where a site keeps its state and its data: the environment, else the site's own file, else a default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sitelora.value_kinds import did_you_mean, strict_json

HOME_VARIABLE = "SITELORA_HOME"
DATA_VARIABLE = "SITELORA_DATA"
METHODS_VARIABLE = "SITELORA_METHODS"
"""Modules, separated by commas, whose functions may be named as methods here."""


def home(config: Path | None = None) -> Path:
    """Return the folder of everything SiteLoRA keeps at this site.

    ``$SITELORA_HOME``, else ``"home"`` in the site's configuration file, else ``~/.sitelora``.

    Args:
        config: a JSON file of the site (never of a job) with the optional keys ``home`` and ``data``.

    Raises:
        ValueError: the configuration file is missing, is not a JSON object or holds something else; or there is no
            ``~`` for this user.
    """
    return _resolve(HOME_VARIABLE, "home", config) or _expanded(Path("~/.sitelora"))


def data_root(config: Path | None = None) -> Path:
    """Return the folder that holds ``<dataset>/<site>`` folders.

    ``$SITELORA_DATA``, else ``"data"`` in the site's configuration file, else ``<home>/data``.

    Raises:
        ValueError: as for :func:`home`.
    """
    return _resolve(DATA_VARIABLE, "data", config) or home(config) / "data"


def site_methods(config: Path | None = None) -> tuple[str, ...]:
    """Return the modules outside of SiteLoRA whose functions a job may name as methods at this site.

    ``"methods"`` in the site's configuration file, and ``$SITELORA_METHODS``, separated by commas.

    Raises:
        ValueError: as for :func:`home`.
    """
    named = os.environ.get(METHODS_VARIABLE, "").split(",")
    listed = _read(config).get("methods", []) if config is not None else []
    return tuple(dict.fromkeys(part.strip() for part in (*listed, *named) if part.strip()))


def site_values(config: Path | None = None) -> dict[str, Any]:
    """Return the bundle values that the site sets itself: ``"settings"`` in its file, for example its device.

    Raises:
        ValueError: as for :func:`home`.
    """
    return dict(_read(config).get("settings", {})) if config is not None else {}


def site_policy(config: Path | None = None) -> dict[str, Any] | None:
    """Return what the site's file says under ``"policy"``, None where it says nothing.

    Raises:
        ValueError: as for :func:`home`.
    """
    return _read(config).get("policy") if config is not None else None


def _resolve(variable: str, key: str, config: Path | None) -> Path | None:
    settings = _read(config) if config is not None else {}
    value = os.environ.get(variable) or settings.get(key)
    if not value:
        return None
    path = _expanded(Path(value))
    if not path.is_absolute() and variable not in os.environ and config is not None:
        path = config.parent / path  # a relative path in a file means "beside this file"
    return path.absolute()


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{path}: this user has no home folder (HOME is not set, and the system knows of none); "
            f'set {HOME_VARIABLE} to an absolute path, or "home" in local/sitelora.json, where state is to be kept'
        ) from error


def _read(config: Path) -> dict[str, Any]:
    try:
        settings = strict_json(config.read_bytes(), finite=True)  # bytes: a byte order mark is no error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"site configuration {config}: {error}; expected a JSON object with the optional keys "
            f'"home", "data", "methods", "settings", "policy"; write it or leave it out and set {HOME_VARIABLE}, '
            f"{DATA_VARIABLE}"
        ) from error
    kinds = {"home": str, "data": str, "methods": list, "settings": dict, "policy": dict}
    if not isinstance(settings, dict) or any(not isinstance(v, kinds.get(k, ())) for k, v in settings.items()):
        found = sorted(settings) if isinstance(settings, dict) else type(settings).__name__
        near = next((did_you_mean(k, kinds) for k in found if k not in kinds), "") if isinstance(found, list) else ""
        raise ValueError(
            f"site configuration {config}: found {found}{near}, expected a JSON object with no other keys than home "
            "and data (each a folder as a string), methods (a list of modules), settings (values by id) and policy "
            "(rules by name); correct the file"
        )
    if not all(isinstance(module, str) for module in settings.get("methods", [])):
        raise ValueError(f"site configuration {config}: methods: expected a list of modules' names; correct the file")
    return settings
