"""Who is who in a run: uids, the round before the first, and the secret that a site keeps to itself."""

from __future__ import annotations

import contextlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from sitelora.federation.files import PRIVATE_FILE, private_folder, saying

BEGIN_ROUND = -1
"""The round number of what leaves a site before the first round: seeded initial values."""


def new_uid() -> str:
    """Return a uid for a new run: the time to the second and four random bytes."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(4)


def secret_file(root: Path) -> Path:
    """Return where a site keeps its secret, below its home."""
    return root / "secret"


def site_secret(root: Path) -> bytes:
    """Return this site's secret, made at first use and readable by its owner only.

    Processes that need it at the same moment agree on one: it appears whole, by a link that only one can make.
    """
    path = secret_file(root)
    if not path.exists():
        private_folder(root)
        temporary = root / f".secret.{secrets.token_hex(8)}"
        with saying(path):
            temporary.touch(mode=PRIVATE_FILE)
            temporary.write_bytes(secrets.token_bytes(32))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
    return path.read_bytes()
