"""What the server notes of every update that it accepted, so that a site can compare its own log with it.

The server has the update itself, so its hash tells it nothing new. It gives a site what it has of that site, and of no
other, where both want to compare: the server's people hand out the file, the site's people name it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sitelora.federation.files import append_line
from sitelora.federation.run_folder import RECEIVED, RunFolder

if TYPE_CHECKING:
    from sitelora.sharing.wire import Packet

_KEYS = {"round": int, "packet_sha256": str, "tensors": int, "bytes": int}


def note_received(run: RunFolder, site: str, round_number: int, packet: Packet, sha256: str) -> None:
    """Append one line on an update, as it came over the wire; ``sha256`` is what ``packet_sha256`` gives of it."""
    from sitelora.sharing.wire import packet_bytes

    told = {"packet_sha256": sha256, "tensors": len(packet), "bytes": packet_bytes(packet)}
    append_line(run.server / RECEIVED, json.dumps({"round": round_number, "site": site, **told}))


class TakenUpdates:
    """Which tensors the rounds of a run have taken from whom: training from another message ends at other bits.

    Args:
        run: its folder; what it has noted of rounds before is read once. rounds: how many are written.
    """

    def __init__(self, run: RunFolder, *, rounds: int) -> None:
        self._hashes: dict[str, set[str]] = {}
        for line in _lines(run):
            if line["round"] < rounds:
                self.note(line["site"], line["packet_sha256"])

    def note(self, site: str, sha256: str) -> None:
        """Note what a round has taken."""
        self._hashes.setdefault(site, set()).add(sha256)

    def require_new(self, site: str, sha256: str, *, moved: bool) -> None:
        """Refuse the tensors of an update that a round before has taken from the site.

        Args:
            site: its name. sha256: of the packet. moved: whether it is of a difference at all; none may come again.

        Raises:
            PacketError: says so.
        """
        from sitelora.sharing.wire import PacketError

        if moved and sha256 in self._hashes.get(site, ()):
            raise PacketError(f"{site}: the very tensors of an update before again; expected those of this round")


def _lines(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield what was noted; a line that was cut short with the machine is passed over."""
    file = run.server / RECEIVED
    for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"site", *_KEYS} <= line.keys():
            yield line


def manifest_for(run: RunFolder, site: str) -> dict[str, Any]:
    """Return what the server has of one site, for that site's people.

    Raises:
        ValueError: nothing was noted here: this is no server's run folder, or of an older version.
    """
    file = run.server / RECEIVED
    if not file.is_file():
        raise ValueError(f"found no {file}, expected it where the server of the run ran")
    rounds = [{key: line[key] for key in _KEYS} for line in _lines(run) if line["site"] == site]
    return {"federation": run.federation, "uid": run.uid, "site": site, "rounds": rounds}


def read_manifest(content: Any) -> dict[str, Any]:
    """Return a manifest that ``manifest_for`` gave, checked.

    Raises:
        ValueError: it is none.
    """
    expected = {"federation", "uid", "site", "rounds"}
    if not isinstance(content, dict) or not expected <= content.keys() or not isinstance(content["rounds"], list):
        raise ValueError("found no manifest, expected what `sitelora audit manifest` prints at the server")
    for one in content["rounds"]:
        if not isinstance(one, dict) or any(not isinstance(one.get(key), kind) for key, kind in _KEYS.items()):
            raise ValueError(f"found {str(one)[:80]} in the manifest, expected {', '.join(_KEYS)}")
    return content
