"""What a run left at its sites, for tests that compare two places: in a result only the site's own secret covers it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def state_hashes(run_folder: Path) -> dict[str, list[str]]:
    """Return, by site, the plain hashes of the trained states that are still kept, oldest first."""
    found: dict[str, list[str]] = {}
    for manifest in sorted(run_folder.glob("*/round_*/manifest.json")):
        if manifest.parts[-3] != "server":
            content = json.loads(manifest.read_text(encoding="utf-8"))
            found.setdefault(manifest.parts[-3], []).append(content["state_sha256"])
    assert found, f"{run_folder} holds no round of a site"
    return found


def audited(log: Path) -> list[dict[str, Any]]:
    """Return the lines of an audit log without what every place has of its own: chain, secret and time."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in ("previous", "time", "mac")} for line in lines]
