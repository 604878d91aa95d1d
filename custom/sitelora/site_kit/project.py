"""Writes the `project.yml` from which `nvflare provision` makes a kit for each participant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from sitelora.disk import OTHER_OUT_FILE, saying
from sitelora.site_kit.site_files import template
from sitelora.site_kit.startup_kit import KitError

PORT = 8002
_LONGEST = 64


def write_project(
    target: Path, *, name: str, server: str, sites: Sequence[str], admin: str, lead: str, port: int = PORT
) -> None:
    """Write a project.

    Args:
        target: the file. name: of the project, and of its folder.
        server: the name by which all sites reach it; a server named localhost listens on this machine alone.
        sites: their names, which are the names of their data's folders too.
        admin: who may do everything. lead: who submits jobs. Both as names with an @.
        port: of the server; the next one is used too.

    Raises:
        KitError: a name cannot be one, or stands there twice; a port that is none.
        DiskError: the file cannot be written.
    """
    _require_names(server, sites, (admin, lead))
    if not 1 <= port < 65535:
        raise KitError(f"found the port {port}, expected 1 to 65534; the next one is used too")
    project = yaml.safe_load(template("project.yml"))
    project["name"] = name
    project["participants"] = [
        {"name": server, "type": "server", "org": "coordinator", "fed_learn_port": port, "admin_port": port + 1},
        *({"name": site, "type": "client", "org": re.sub(r"\W", "_", site)} for site in sites),
        {"name": admin, "type": "admin", "org": "coordinator", "role": "project_admin"},
        {"name": lead, "type": "admin", "org": "coordinator", "role": "lead"},
    ]
    with saying(target, elsewhere=OTHER_OUT_FILE):
        target.write_text(yaml.safe_dump(project, sort_keys=False), encoding="utf-8")


def participants(project: Path) -> tuple[str, list[str]]:
    """Return a project's name and those of its participants.

    Raises:
        KitError: the file cannot be read.
    """
    try:
        content = yaml.safe_load(project.read_text(encoding="utf-8"))
        return str(content["name"]), [str(one["name"]) for one in content["participants"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise KitError(
            f"{project}: {getattr(error, 'strerror', None) or error!r}; expected the project.yml from which the kits "
            "were made"
        ) from error


def _require_names(server: str, sites: Sequence[str], people: Sequence[str]) -> None:
    everyone = [server, *sites, *people]
    twice = sorted({name for name in everyone if everyone.count(name) > 1})
    if twice:
        raise KitError(f"found {', '.join(twice)} twice, expected every participant once")
    if not sites:
        raise KitError("found no site, expected at least one")
    for name in (server, *sites):
        if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9.-]{{0,{_LONGEST - 1}}}", name):
            raise KitError(
                f"found the name {name!r}, expected letters, digits, - and ., at most {_LONGEST}: a certificate and a "
                "folder are called by it"
            )
    for name in people:
        if not re.fullmatch(r"[^@\s/]+@[^@\s/]+", name) or len(name) > _LONGEST:
            raise KitError(f"found the name {name!r}, expected one such as lead@sitelora.example, at most {_LONGEST}")
