"""Names of cases: the file's name where that is enough, else with as many folders before it as tell cases apart."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from sitelora.data.endings import stem

LONGEST = 180
"""Bytes of a name; endings and numbers are added to it, and file systems take 255."""


def unique_names(paths: Collection[str]) -> dict[str, str]:
    """Return a name for every path, different from all others also where case is ignored.

    ``images/p0/scan.nii.gz`` and ``images/p1/scan.nii.gz`` are ``p0_scan`` and ``p1_scan``; files that no other file
    shares its name with keep it. What even all folders do not tell apart (``a.nii`` and ``a.png``) receives six
    figures made from the path.

    Args:
        paths: of image files; equal ones count once.
    """
    parts = {path: _parts(path) for path in paths}
    depth = {path: 1 for path in parts}
    while True:
        names = {path: "_".join(own[-depth[path] :]) for path, own in parts.items()}
        shared = Counter(folded(name) for name in names.values())
        deeper = [p for p, name in names.items() if shared[folded(name)] > 1 and depth[p] < len(parts[p])]
        if not deeper:
            break
        for path in deeper:
            depth[path] += 1
    return {
        path: f"{_cut(name)}-{_figures(path)}" if shared[folded(name)] > 1 or _cut(name) != name else name
        for path, name in names.items()
    }


def _parts(path: str) -> tuple[str, ...]:
    pure = PurePosixPath(path)
    return (*(part for part in pure.parts[:-1] if part not in ("/", ".", "..")), stem(Path(pure.name)))


def folded(name: str) -> str:
    """Return a name as it is compared: without regard to case and forms of characters."""
    return unicodedata.normalize("NFKC", name).casefold()


def _cut(name: str) -> str:
    return name.encode()[:LONGEST].decode(errors="ignore") if len(name.encode()) > LONGEST else name


def _figures(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:6]
