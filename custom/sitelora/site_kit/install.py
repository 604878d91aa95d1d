"""Writes what a participant needs into its kit, and says what differs from that.

What a person may have written (``sitelora.json``, ``privacy.json``, ``authorization.json``) stays, unless it is asked
for otherwise; then the older one is kept beside the new. ``resources.json`` is completed and loses nothing else.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from sitelora.federation.files import PRIVATE_FILE, PRIVATE_FOLDER, private_folder, saying, write_json
from sitelora.policy.site_policy import Policy
from sitelora.site_kit.site_files import OWN, RESOURCES, expected, read_file, template
from sitelora.site_kit.startup_kit import StartupKit

BEFORE = ".before"


def install(kit: StartupKit, own: Mapping[str, Any], *, force: bool = False) -> list[str]:
    """Write a kit's own files and return what was done, a line a file.

    Args:
        kit: of a site or the server. own: content of ``sitelora.json`` where there is none yet, or with ``force``.
        force: replace what is there; the older file stays as NAME.before.

    Raises:
        PolicyError: the policy in force is not usable. KitError: a file of the kit cannot be read.
        DiskError: something cannot be written.
    """
    done = [_put(kit.local / OWN, own, force=force)]
    policy = Policy.read(kit.local / OWN)
    private_folder(Path(read_file(kit.local / OWN).get("home", kit.path / "home")))
    for name, content in expected(kit, policy).items():
        done.append(_put(kit.local / name, content, force=force or name == RESOURCES))
    unit = kit.path / unit_name(kit)
    text = unit_text(kit)
    if not unit.is_file() or unit.read_text(encoding="utf-8") != text:
        with saying(unit):
            unit.write_text(text, encoding="utf-8")
    done.append(f"{unit.name}: a service of systemd, not installed; its first lines say how")
    make_private(kit)
    done.append("rights: folders 0700, files for their owner only")
    return done


def differences(kit: StartupKit) -> list[str]:
    """Return where a kit is not as ``install`` would write it, a line a difference; none means that it is.

    Raises:
        PolicyError: the policy in force is not usable. KitError: a file of the kit cannot be read.
    """
    own = kit.local / OWN
    if not own.is_file():
        return [f"local/{OWN}: there is none; `sitelora site install` writes it and the others"]
    found: list[str] = []
    for name, content in expected(kit, Policy.read(own)).items():
        file = kit.local / name
        if not file.is_file():
            found.append(f"local/{name}: there is none, so NVFlare's own default counts")
            continue
        found += [f"local/{name}: {line}" for line in _unlike(read_file(file), content)]
    if not (kit.path / unit_name(kit)).is_file():
        found.append(f"{unit_name(kit)}: there is none")
    found += [f"{path.relative_to(kit.path)}: others have rights to it" for path in _open(kit)]
    return found


def make_private(kit: StartupKit) -> None:
    """Take all rights of others from a kit; what can be executed stays so."""
    for path in _all(kit):
        path.chmod(_private_mode(path))


def unit_name(kit: StartupKit) -> str:
    """Return the name of a kit's service."""
    return f"sitelora-{kit.name}.service"


def unit_text(kit: StartupKit) -> str:
    """Return a service of systemd that runs a kit with this very Python."""
    search = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    return Template(template("sitelora.service")).substitute(
        name=kit.name,
        kind=kit.kind,
        file=unit_name(kit),
        unit=kit.path / unit_name(kit),
        path=_quoted(f"PATH={search}"),
        python=_quoted(sys.executable),
        kit=_quoted(str(kit.path)),
    )


def _put(file: Path, content: Mapping[str, Any], *, force: bool) -> str:
    name = f"local/{file.name}"
    if not file.is_file():
        write_json(file, content)
        return f"{name}: written"
    if read_file(file) == content:
        return f"{name}: is so already"
    if not force:
        return f"{name}: KEPT as it is; --force replaces it"
    before = file.with_name(file.name + BEFORE)
    os.replace(file, before)
    write_json(file, content)
    return f"{name}: replaced; what it was is in {before.name}"


def _unlike(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            yield f"{key}: found {_told(found.get(key))}, expected {_told(wanted.get(key))}"


def _told(value: Any) -> str:
    if isinstance(value, list):
        names = [one.get("id", "?") if isinstance(one, dict) else str(one) for one in value]
        return f"{len(names)} entries" if len(names) > 6 else f"[{', '.join(names)}]"
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _all(kit: StartupKit) -> Iterator[Path]:
    """Yield the kit and all that is in it but links."""
    for path in (kit.path, *kit.path.rglob("*")):
        if not path.is_symlink() and (path.is_dir() or path.is_file()):
            yield path


def _open(kit: StartupKit) -> Iterator[Path]:
    """Yield what others may read or change, and what matters: folders at the top, start-up and local files."""
    top = [kit.path, *(path for path in kit.path.iterdir() if path.is_dir())]
    for path in (*top, *kit.startup.iterdir(), *kit.local.iterdir()):
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield path


def _private_mode(path: Path) -> int:
    executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
    return PRIVATE_FOLDER if executable else PRIVATE_FILE


def _quoted(text: str) -> str:
    """Return a word as systemd reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
