"""Site folders appear whole or not at all: written beside their place, then moved there in one step."""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from sitelora.data.site_folder import DATALIST, FILES, SiteDataError, SiteFolder
from sitelora.disk import filling, saying
from sitelora.home import DATA_VARIABLE
from sitelora.names import checked_name

_log = logging.getLogger(__name__)
_STALE_S = 86_400  # our choice: no site takes a day, so a partial folder of that age has no writer any more
_ELSEWHERE = f"name with --out, or in {DATA_VARIABLE}, a folder"


def write_site_folder(folder: SiteFolder, fill: Callable[[Path], None], *, overwrite: bool = False) -> bool:
    """Write one site folder atomically; do nothing when the same one is already there.

    "The same" is an equal ``dataset.json`` (it records source and settings) with every file it names present.

    Args:
        folder: what ``dataset.json`` shall say; ``folder.path`` is where it goes.
        fill: writes the files that ``folder`` names below the temporary folder it is given; ``images/``, and
            ``labels/`` where a case has one, exist there already.
        overwrite: replace a folder with other content instead of refusing. Refusing is our choice: the folder
            may hold a hospital's only copy of corrected masks.

    Returns:
        True when the folder was written, False when it was already there.

    Raises:
        SiteDataError: something else is at the place and ``overwrite`` is not set. DiskError: it cannot be written.
    """
    target = folder.path
    for kind, name in (("dataset", target.absolute().parent.name), ("site", folder.name)):
        try:
            checked_name(kind, name)
        except ValueError as error:
            raise SiteDataError(f"{target}: {error}") from error
    _tidy(target)
    if _same(folder):
        _log.info("site %s: %s is complete already", folder.name, target)
        return False
    if target.exists() and not overwrite:
        raise SiteDataError(
            f"site {folder.name}: {target} exists and holds something else than what would be written "
            "(another source, other settings or missing files); it is left as it is. Choose another output "
            "folder, move it away, or ask for overwriting"
        )
    with saying(target, elsewhere=_ELSEWHERE):
        target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:8]}"
    try:
        with filling(partial, shown=target, elsewhere=_ELSEWHERE):
            masks = any("label" in entry for entries in folder.splits.values() for entry in entries)
            for name in ("images", "labels") if masks else ("images",):
                (partial / name).mkdir(parents=True)
            fill(partial)
            text = json.dumps(folder.to_json(), indent=2, ensure_ascii=False) + "\n"
            (partial / DATALIST).write_text(text, encoding="utf-8")
        with saying(target, elsewhere=_ELSEWHERE):
            return _move(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_selection(source: SiteFolder, target: SiteFolder, put: Callable[[Path, Path], object]) -> bool:
    """Write a site folder of some of another one's cases, as of `write_site_folder`.

    Args:
        source: whose files they are. target: what is written; it lists them by the same names.
        put: makes the second path of the first: a copy or a link. Once a file, however often it is listed.
    """

    def fill(place: Path) -> None:
        for name in sorted({str(e[key]) for es in target.splits.values() for e in es for key in FILES if key in e}):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            put(source.path / name, place / name)

    return write_site_folder(target, fill)


def _tidy(target: Path) -> None:
    """Undo what a killed run left: put an old folder back in its empty place, remove what it had begun."""
    if not target.exists():
        for old in sorted(target.parent.glob(f".{target.name}.old-*"))[:1]:
            _log.warning("%s: restoring the folder that an interrupted run had moved to %s", target, old.name)
            old.rename(target)
    for partial in target.parent.glob(f".{target.name}.partial-*"):
        if time.time() - partial.stat().st_mtime > _STALE_S:
            shutil.rmtree(partial, ignore_errors=True)


def _move(partial: Path, folder: SiteFolder) -> bool:
    """Put ``partial`` in its place; a process that wrote the same folder meanwhile wins."""
    target = folder.path
    if _same(folder):
        return False
    old = target.parent / f".{target.name}.old-{uuid.uuid4().hex[:8]}"
    if target.exists():
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if _same(folder):
            return False
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return True


def _same(folder: SiteFolder) -> bool:
    file = folder.path / DATALIST
    try:
        if json.loads(file.read_bytes()) != json.loads(json.dumps(folder.to_json())):
            return False
    except (OSError, ValueError):
        return False
    names = (entry[key] for entries in folder.splits.values() for entry in entries for key in FILES if key in entry)
    return all((folder.path / name).is_file() for name in names)
