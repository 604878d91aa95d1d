"""Which sites trained on drawn data: what a phantom scores says nothing about patients, so the page must say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sitelora.federation.run_folder import EVENTS
from sitelora.run_result import SiteFacts


def artificial_sites(run_dir: Path, sites: Mapping[str, SiteFacts]) -> list[str]:
    """Return the names of sites whose data was drawn.

    Two signs, each of which counts: the simulator noted that it drew a phantom for want of data; the hospital's name
    begins with "phantom", as the phantom's own folders do.

    Args:
        run_dir: the run, with as many ``<site>/events.jsonl`` as are at hand.
        sites: ``sites`` of ``result.json``.
    """
    drawn = {name for name, told in sites.items() if told.hospital.lower().startswith("phantom")}
    return sorted(drawn | {path.parent.name for path in run_dir.glob(f"*/{EVENTS}") if _noted(path)})


def _noted(path: Path) -> bool:
    """Say whether a site's events tell that its data was drawn; a line cut short by a crash tells nothing."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"artificial_data"' in line:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict) and event.get("event") == "artificial_data":
                return True
    return False
