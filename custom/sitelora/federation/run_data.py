"""A run's data over its whole life: no patient that it trained on is judged later, and what changed is said.

A run may be resumed after days in which somebody sorted the cases anew. What it trained on stands in the site's own
folder of the run, as HMACs of patients under the site's secret; of a change nothing leaves but another HMAC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sitelora.data.site_entries import patient_key
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder
from sitelora.disk import file_sha256
from sitelora.federation.files import json_if_readable, write_json
from sitelora.federation.run_folder import TRAINED_ON
from sitelora.sharing.chain import mac_of

_KEY = "patients"


def require_untrained(folder: SiteFolder, place: Path, secret: bytes, *, resumed: bool) -> None:
    """Refuse cases for validation or test of patients that this run has trained on, and note whom it trains on now.

    Args:
        folder: of the site. place: its folder of the run. secret: the site's.
        resumed: rounds were done before; else what an earlier attempt noted is nobody's training.

    Raises:
        SiteDataError: names the patients.
    """
    noted = place / TRAINED_ON
    before = set(json_if_readable(noted).get(_KEY, ())) if resumed else set()
    judged = {
        patient_key(entry["patient"]): f"{entry['patient']} ({split})"
        for split in SPLITS[1:]
        for entry in folder.splits.get(split, ())
    }
    wrong = [told for key, told in judged.items() if _hmac(secret, key) in before]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SiteDataError(
            f"{folder.path}: the run has trained on the patients {', '.join(wrong[:3])}{more}, who would be judged "
            "now; put them back into training, or take another uid"
        )
    now = {_hmac(secret, patient_key(entry["patient"])) for entry in folder.splits.get(SPLITS[0], ())}
    write_json(noted, {_KEY: sorted(before | now)})


def data_hmac(folder: SiteFolder, secret: bytes, **context: object) -> str:
    """Return a fingerprint of a site's cases under its secret: which, in which split, with which masks.

    Args:
        folder: of the site. secret: its own, so that nobody else learns anything but that it is another one.
        context: what else it belongs to, the run above all: fingerprints of two runs have nothing in common.

    Raises:
        OSError: a file cannot be read.
    """
    told = [*sorted(context.items()), *_lines(folder)]
    return _hmac(secret, json.dumps(told, default=str))


def _lines(folder: SiteFolder) -> Iterator[tuple[str, ...]]:
    root = folder.path.absolute()
    for split in SPLITS:
        for entry in folder.splits.get(split, ()):
            plain = json.dumps({key: str(value) for key, value in entry.items()}, sort_keys=True)
            label = entry.get("label")
            mask = file_sha256(root / label) if isinstance(label, str) else ""
            yield split, plain, str((root / str(entry["image"])).stat().st_size), mask


def _hmac(secret: bytes, text: str) -> str:
    return mac_of(secret, text.encode())
