"""Who is who in a run: uids, the round before the first, and the secret that a site keeps to itself."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from datetime import datetime, timezone
from pathlib import Path

BEGIN_ROUND = -1
"""The round number of what leaves a site before the first round: seeded initial values."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def new_uid() -> str:
    """Return a uid for a new run: the time to the second and four random bytes."""
    return datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(4)


def checked_name(kind: str, name: object) -> str:
    """Return ``name`` if it may name a folder: a federation's name and uid come over the wire and end up in paths.

    Args:
        kind: what it is the name of, for the message.

    Raises:
        ValueError: not a string of letters, digits, ``.``, ``_`` and ``-`` that starts with a letter or digit.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{kind} {name!r}: expected letters, digits, '.', '_' and '-' only, starting with a letter or digit, "
            "because it names a folder; correct the job"
        )
    return name


def site_secret(root: Path) -> bytes:
    """Return this site's secret, made at first use and readable by its owner only.

    Processes that need it at the same moment agree on one: it appears whole, by a link that only one can make.
    """
    path = root / "secret"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        temporary = root / f".secret.{secrets.token_hex(8)}"
        temporary.touch(mode=0o600)
        temporary.write_bytes(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    return path.read_bytes()
