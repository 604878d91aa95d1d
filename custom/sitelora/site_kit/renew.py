"""Gives named participants new certificates under the same root, and puts a renewed kit in the place of an older one.

`nvflare provision` hands out the certificates that its state remembers, however often it is called: a participant has
to be forgotten there first. The state holds the root's private key, so it is kept aside until everything is checked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.federation.files import make_private, write_json
from sitelora.site_kit.certificates import Certificate, require_pair
from sitelora.site_kit.processes import processes_of
from sitelora.site_kit.project import participants
from sitelora.site_kit.site_files import read_file
from sitelora.site_kit.startup_kit import KitError, StartupKit

_STATE = Path("state") / "cert.json"
_ASIDE = "cert.json.before"
STARTUP_BEFORE = "startup.before"


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """A participant with a new certificate: its kit, the old one and the new one."""

    kit: StartupKit
    old: Certificate
    new: Certificate


def renew(*, project: Path, workspace: Path, names: Sequence[str]) -> list[Renewed]:
    """Make new kits in which the named participants have new certificates, under the same root.

    All others have the certificates that they had. The older kits stay where they are.

    Args:
        project: the project.yml that was provisioned. workspace: the folder given to `nvflare provision` as ``-w``.
        names: of sites, the server, people.

    Raises:
        KitError: a name is not there, the state cannot be used, or what NVFlare made is not what it has to be; the
            state is then as it was.
    """
    title, known = participants(project)
    folder = workspace / title
    state, aside = folder / _STATE, folder / _STATE.parent / _ASIDE
    if aside.exists():
        raise KitError(
            f"{aside} is there: an earlier renewal was cut off. It is the state before it, with the root's private "
            f"key: move it to {state}, then renew again"
        )
    if not state.is_file():
        raise KitError(f"found no {state}, expected the state of `nvflare provision -w {workspace}`")
    content = read_file(state)
    absent = [name for name in names if name not in content or name not in known]
    if absent:
        raise KitError(
            f"found no certificate of {', '.join(absent)} in {state}; participants are "
            f"{', '.join(name for name in known if name in content)}"
        )
    before = _newest(folder)
    if before is None:
        raise KitError(f"found no prod_00 in {folder}, expected the kits that `nvflare provision` made")
    old = {name: StartupKit.read(before / name) for name in known if name in content}
    shutil.copy2(state, aside)
    make_private(aside)
    try:
        write_json(state, {key: value for key, value in content.items() if key not in names})
        _provision(project, workspace)
        after = _newest(folder)
        if after is None or after == before:
            raise KitError(f"`nvflare provision` has made no new kits in {folder}")
        made = {name: StartupKit.read(after / name) for name in old}
        _require_renewed(old, made, names)
    except BaseException:
        os.replace(aside, state)
        raise
    aside.unlink()
    make_private(state)
    return [Renewed(kit=made[name], old=old[name].leaf, new=made[name].leaf) for name in names]


def take(kit: StartupKit, handed: StartupKit) -> None:
    """Put the start-up files of a renewed kit into one that is in use; everything else in it stays.

    The older ones are kept as ``startup.before``.

    Raises:
        KitError: the two are not of the same participant and federation, nothing is new, or the kit runs.
        CertificateError: the new certificate is not of its key or its root.
    """
    for what, mine, theirs in (
        ("the kit of", f"{kit.kind} {kit.name}", f"{handed.kind} {handed.name}"),
        ("the root", kit.root.serial, handed.root.serial),
    ):
        if mine != theirs:
            raise KitError(f"{handed.path}: found {what} {theirs}, expected {mine}, as in {kit.path}")
    require_pair(handed.leaf, handed.key, handed.root)
    if handed.root.pem != kit.root.pem:
        raise KitError(f"{handed.path}: its root is not that of {kit.path}: they are of two federations")
    if handed.leaf.serial == kit.leaf.serial:
        raise KitError(f"{handed.path}: it has the certificate that {kit.path} has already; nothing was changed")
    if processes_of(kit.path):
        raise KitError(f"{kit.path} runs; `sitelora site stop {kit.path}` first, nothing was changed")
    coming, older = kit.path / ".startup.coming", kit.path / STARTUP_BEFORE
    shutil.rmtree(coming, ignore_errors=True)
    shutil.copytree(handed.startup, coming)
    shutil.rmtree(older, ignore_errors=True)
    os.replace(kit.startup, older)
    os.replace(coming, kit.startup)


def _provision(project: Path, workspace: Path) -> None:
    nvflare = Path(sys.executable).parent / "nvflare"
    command = [str(nvflare), "provision", "-p", str(project), "-w", str(workspace), "--force"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise KitError(
            f"{nvflare}: {error.strerror}; NVFlare comes with `pip install 'sitelora[federation]'`"
        ) from error
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split())[-600:]
        raise KitError(f"`{' '.join(command[1:])}` failed (exit {done.returncode}): {told}")


def _require_renewed(old: dict[str, StartupKit], made: dict[str, StartupKit], names: Sequence[str]) -> None:
    for name, kit in made.items():
        if kit.root.pem != old[name].root.pem:
            raise KitError(f"{kit.path}: its root is another one than that of {old[name].path}")
        require_pair(kit.leaf, kit.key, kit.root)
        if (kit.leaf.serial == old[name].leaf.serial) == (name in names):
            raise KitError(f"{kit.path}: its certificate is {'the older' if name in names else 'a new'} one")


def _newest(folder: Path) -> Path | None:
    found = [path for path in folder.glob("prod_*") if re.fullmatch(r"prod_\d+", path.name)]
    return max(found, key=lambda path: int(path.name[5:]), default=None)
