"""One grammar for the names of sites, federations, datasets and runs: what every part that they pass through takes.

They become folders, NVFlare jobs, names in certificates and addresses of processes. NVFlare 2.9 takes dots in the name
of a job and not in that of a site (an address is split at them), takes ``-x`` as a site and not as a job, and a
certificate's common name has at most 64 letters. What all of them take is taken here, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 63
LETTERS = r"[A-Za-z0-9][A-Za-z0-9_-]*"
"""Pattern of a name, or of several joined by the same letters, of any length."""
_NAME = re.compile(rf"(?=.{{1,{LONGEST}}}\Z){LETTERS}")
_NVFLARES = frozenset({"server", "server_parent", "client", "admin", "relay", "all"})
_FOLDERS = frozenset({"job", "workspace", "report", "data"})
"""What else lies in the folder of a run, beside one folder a participant."""
_IN_HOME = frozenset({"secret", "data", "phantom"})
"""What else lies in a home, beside one folder a federation."""


def checked_name(kind: str, name: object) -> str:
    """Return ``name`` if it may name a folder: names come from jobs and over the wire, and end up in paths.

    Args:
        kind: what it is the name of: "federation", "uid", "dataset" or "site".

    Raises:
        ValueError: it is no such name; says what was expected.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        found = f"{name[:40]!r}... of {len(name)}" if isinstance(name, str) and len(name) > LONGEST else repr(name)
        raise ValueError(
            f"{kind} {found}: expected 1 to {LONGEST} letters, digits, '_' and '-' only (no dots), starting with a "
            "letter or digit, because it names a folder, a job and a certificate; choose another name"
        )
    if kind == "site" and name.lower() in _NVFLARES | _FOLDERS:
        raise ValueError(
            f"site {name!r}: this name is taken, by NVFlare or by a folder of every run; expected none of "
            f"{', '.join(sorted(_NVFLARES | _FOLDERS))}; choose another name"
        )
    if kind == "federation" and name.lower() in _IN_HOME:
        raise ValueError(
            f"federation {name!r}: this name is taken, by what else lies in every home; expected none of "
            f"{', '.join(sorted(_IN_HOME))}; choose another name"
        )
    return name


def checked_sites(names: Iterable[object]) -> tuple[str, ...]:
    """Return the names of a federation's sites, sorted, if all may be: each once, whatever the case of its letters.

    Raises:
        ValueError: one of them may not, two are one, or there is none.
    """
    checked = sorted(checked_name("site", name) for name in names)
    if not checked:
        raise ValueError("there are no sites; expected at least one")
    known: dict[str, str] = {}
    for name in checked:
        if name.lower() in known:
            raise ValueError(
                f"sites {known[name.lower()]!r} and {name!r} are one name where the case of letters does not count, "
                "as in file systems and in NVFlare's commands; expected every name once; rename one"
            )
        known[name.lower()] = name
    return tuple(checked)


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts ``site-2`` before ``site-10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
