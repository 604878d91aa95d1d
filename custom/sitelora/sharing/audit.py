"""The audit log: one JSON line a tensor that leaves, each with the hash of the line before it, and a seal.

Every line has a sequence number and the sha256 of the previous line, so a line that is changed, removed or repeated
breaks the chain. What a chain cannot show is that its end is missing: ``<log>.seal.json`` beside it says how many lines
there are and how the last one hashes, under the site's secret. A restart continues the chain.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from sitelora.sharing.wire import Packet, tensor_sha256

BEGINNING = "0" * 64
"""The previous hash of the first line."""


@dataclass(frozen=True, kw_only=True)
class AuditLog:
    """A site's log of what left it.

    Args:
        path: of the log. secret: the site's own, for the seal.
    """

    path: Path
    secret: bytes

    @property
    def seal_path(self) -> Path:
        """Where the seal lies."""
        return self.path.with_name(f"{self.path.stem}.seal.json")

    def write(self, packet: Packet, **context: object) -> None:
        """Append one line a tensor: sequence number, previous hash, time, context, name, form, norm and sha256."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)
        with _locked(self.path) as stream:
            number, previous = _end_of(stream)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            lines = []
            for name in sorted(packet):
                entry = {"seq": number, "previous": previous, "time": now, **context, **_facts(name, packet[name])}
                line = json.dumps(entry).encode()
                lines.append(line + b"\n")
                number, previous = number + 1, _sha256(line)
            stream.write(b"".join(lines))
            stream.flush()
            os.fsync(stream.fileno())
            self._seal(number, previous)

    def _seal(self, lines: int, last: str) -> None:
        temporary = self.seal_path.with_name(f".{self.seal_path.name}.{os.getpid()}")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps({"lines": lines, "last": last, "mac": _mac(self.secret, lines, last)}) + "\n")
        os.replace(temporary, self.seal_path)


def verify_audit(path: Path, secret: bytes | None = None) -> list[str]:
    """Return everything that is wrong with an audit log, line by line; nothing wrong gives an empty list.

    Args:
        path: of the log. secret: the site's own; without it the seal is compared but not proved.
    """
    seal_path = AuditLog(path=path, secret=b"").seal_path
    if not path.is_file():
        return [f"{path}: there is a seal but no log"] if seal_path.is_file() else [f"{path}: there is no such log"]
    problems: list[str] = []
    previous, count = BEGINNING, 0
    *lines, rest = path.read_bytes().split(b"\n")
    for count, line in enumerate(lines, start=1):
        entry = _entry(line)
        if entry is None:
            problems.append(f"line {count} is no audit line: it was cut or changed")
        elif entry["previous"] != previous:
            problems.append(f"line {count}: a line before it was changed, removed, repeated or put elsewhere")
        elif entry["seq"] != count - 1:
            problems.append(f"line {count} has the number {entry['seq']}, expected {count - 1}")
        previous = _sha256(line)
    if rest:
        problems.append(f"line {count + 1} is cut: it has no end")
    return [*problems, *_seal_problems(seal_path, count, lines, secret)]


def _seal_problems(path: Path, count: int, lines: list[bytes], secret: bytes | None) -> Iterator[str]:
    try:
        seal = json.loads(path.read_text(encoding="utf-8"))
        sealed, last, mac = int(seal["lines"]), str(seal["last"]), str(seal["mac"])
    except (OSError, ValueError, KeyError, TypeError):
        if count:
            yield f"{path.name} is missing or no seal: lines may have been removed at the end"
        return
    if secret is not None and not hmac.compare_digest(mac, _mac(secret, sealed, last)):
        yield f"{path.name} was not written with this site's secret"
    if sealed > count:
        yield f"{sealed - count} lines are missing at the end: {sealed} are sealed, {count} are there"
    elif (_sha256(lines[sealed - 1]) if sealed else BEGINNING) != last:
        yield f"line {sealed} is not the one that was sealed"
    elif sealed < count:
        yield f"lines {sealed + 1} to {count} are not sealed: added by hand, or the process ended while it wrote them"


def _facts(name: str, tensor: Tensor) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "bytes": tensor.numel() * tensor.element_size(),
        "norm": float(f"{float(tensor.double().norm()):.6g}"),
        "sha256": tensor_sha256(tensor),
    }


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and {"seq", "previous", "sha256"} <= entry.keys() else None


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # two processes of one site would break the chain; closing unlocks
        yield stream


def _end_of(stream: BinaryIO) -> tuple[int, str]:
    """Return the next sequence number and the hash of the last line; a line that was cut is ended first."""
    stream.seek(0)
    content = stream.read()
    if content and not content.endswith(b"\n"):
        stream.write(b"\n")
        content += b"\n"
    lines = content.split(b"\n")[:-1]
    return len(lines), _sha256(lines[-1]) if lines else BEGINNING


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _mac(secret: bytes, lines: int, last: str) -> str:
    return hmac.new(secret, f"audit\x1f{lines}\x1f{last}".encode(), hashlib.sha256).hexdigest()
