"""The audit log: one JSON line a tensor that leaves, each in a chain and under the site's secret, and a seal.

Every line has a sequence number, the number of the answer that it left in, the sha256 of the previous line, and at its
end an HMAC of itself: a line that is changed, removed or repeated breaks the chain, and nobody without the site's
secret can make a line, or a chain, anew. What a chain cannot show is that its end is missing: ``<log>.seal.json``
beside it says, under the secret too, how many lines and answers there are and how the last line hashes. A restart
continues it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from sitelora.sharing.chain import BEGINNING, append, end_of, is_signed, locked, mac_of, sha256_of, signed, whole
from sitelora.sharing.wire import Packet, tensor_sha256


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
        return seal_beside(self.path)

    @property
    def answers(self) -> int:
        """How many answers have left, with tensors or without."""
        seal = _seal_of(self.seal_path)
        if seal is not None:
            return seal.answers
        if not self.path.is_file():
            return 0
        entry = _entry(self.path.read_bytes().rstrip(b"\n").rpartition(b"\n")[2])
        return int(entry["answer"]) + 1 if entry is not None else 0

    def write(self, packet: Packet, values: Packet | None = None, **context: object) -> None:
        """Append one line a tensor: its numbers, previous hash, time, context, name, form, norm, sha256 and HMAC.

        Args:
            packet: as it leaves. values: that a receiver reads of it, whose norms the lines tell; the packet's own.
            context: what each line says beside that.

        Raises:
            OSError: they cannot be written, with the seal; none of them is there then.
        """
        read = {**packet, **(values or {})}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)
        with locked(self.path) as stream, whole(stream):
            number, previous = end_of(stream)
            answer = self.answers
            now = datetime.now(UTC).isoformat(timespec="seconds")
            lines = []
            for name in sorted(packet):
                entry = {"seq": number, "answer": answer, "previous": previous, "time": now, **context}
                line = signed(self.secret, {**entry, **_facts(name, packet[name], read[name])})
                lines.append(line + b"\n")
                number, previous = number + 1, sha256_of(line)
            append(stream, b"".join(lines))
            self._seal(_Seal(lines=number, answers=answer + 1, last=previous))

    def _seal(self, seal: _Seal) -> None:
        temporary = self.seal_path.with_name(f".{self.seal_path.name}.{os.getpid()}")
        try:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps({**asdict(seal), "mac": seal.mac_of(self.secret)}) + "\n")
            os.replace(temporary, self.seal_path)
        finally:
            temporary.unlink(missing_ok=True)


def seal_beside(log: Path) -> Path:
    """Return where the seal of a log lies."""
    return log.with_name(f"{log.stem}.seal.json")


def verify_audit(path: Path, secret: bytes | None = None) -> list[str]:
    """Return everything that is wrong with an audit log, line by line; nothing wrong gives an empty list.

    Args:
        path: of the log. secret: the site's own; without it chain and seal are compared but not proved.
    """
    seal_path = seal_beside(path)
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
        if entry is not None and secret is not None and not is_signed(secret, line):
            problems.append(f"line {count} was changed, or not written with this site's secret")
        previous = sha256_of(line)
    if rest:
        problems.append(f"line {count + 1} is cut: it has no end")
    return [*problems, *_seal_problems(seal_path, count, lines, secret)]


def audit_entries(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log that are audit lines, in order; `verify_audit` judges whether they are sound."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    return [entry for line in lines if (entry := _entry(line)) is not None]


def entries_sha256(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return what ``packet_sha256`` gives of the tensors that these lines tell of, so that a receiver can compare."""
    total = hashlib.sha256()
    for one in sorted(entries, key=lambda one: str(one["name"])):
        total.update(f"{one['name']}|torch.{one['dtype']}|{tuple(one['shape'])}|{one['sha256']}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Seal:
    lines: int
    answers: int
    last: str

    def mac_of(self, secret: bytes) -> str:
        return mac_of(secret, f"audit\x1f{self.lines}\x1f{self.answers}\x1f{self.last}".encode())


def _seal_of(path: Path) -> _Seal | None:
    try:
        told = json.loads(path.read_bytes())
        seal = _Seal(lines=int(told["lines"]), answers=int(told["answers"]), last=str(told["last"]))
        return seal if seal.lines >= 0 and seal.answers >= 0 else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _seal_problems(path: Path, count: int, lines: list[bytes], secret: bytes | None) -> Iterator[str]:
    seal = _seal_of(path)
    if seal is None:
        if count:
            yield f"{path.name} is missing or no seal: lines may have been removed at the end"
        return
    mac = json.loads(path.read_bytes()).get("mac")
    if secret is not None and not (isinstance(mac, str) and hmac.compare_digest(mac, seal.mac_of(secret))):
        yield f"{path.name} was not written with this site's secret"
    sealed = seal.lines
    if sealed > count:
        yield f"{sealed - count} lines are missing at the end: {sealed} are sealed, {count} are there"
    elif (sha256_of(lines[sealed - 1]) if sealed else BEGINNING) != seal.last:
        yield f"line {sealed} is not the one that was sealed"
    elif sealed < count:
        yield f"lines {sealed + 1} to {count} are not sealed: added by hand, or the process ended while it wrote them"


def _facts(name: str, tensor: Tensor, read: Tensor) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "bytes": tensor.numel() * tensor.element_size(),
        "norm": float(f"{float(read.double().norm()):.6g}"),
        "sha256": tensor_sha256(tensor),
    }


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and {"seq", "answer", "previous", "sha256"} <= entry.keys() else None
