"""Lines of JSON in a chain: each holds the hash of the one before it and ends in an HMAC under the site's secret."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

BEGINNING = "0" * 64
"""The previous hash of the first line."""
_MAC = b', "mac": "'


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Open a chain for reading and appending, this process alone."""
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # two processes of one site would break the chain; closing unlocks
        yield stream


def end_of(stream: BinaryIO) -> tuple[int, str]:
    """Return the next sequence number and the hash of the last line; a line that was cut is ended first."""
    stream.seek(0)
    content = stream.read()
    if content and not content.endswith(b"\n"):
        append(stream, b"\n")
        content += b"\n"
    lines = content.split(b"\n")[:-1]
    return len(lines), sha256_of(lines[-1]) if lines else BEGINNING


@contextmanager
def whole(stream: BinaryIO) -> Iterator[None]:
    """Take back what was appended where it cannot all be written: what did not leave is in no log.

    Raises:
        OSError: as it came, with the name of the file.
    """
    size = os.fstat(stream.fileno()).st_size
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            os.ftruncate(stream.fileno(), size)
        raise OSError(error.errno, error.strerror or str(error), str(stream.name)) from error


def append(stream: BinaryIO, data: bytes) -> None:
    """Append to a chain and wait for the disk; nothing stays in a buffer, which would be written when it is closed."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(stream.fileno(), rest) :]
    os.fsync(stream.fileno())


def sha256_of(line: bytes) -> str:
    """Return the hash by which the next line knows this one."""
    return hashlib.sha256(line).hexdigest()


def signed(secret: bytes, entry: Mapping[str, Any]) -> bytes:
    """Return an entry as a line that ends in an HMAC of what stands before it."""
    body = json.dumps(entry).encode()
    return body[:-1] + _MAC + mac_of(secret, b"line\x1f" + body).encode() + b'"}'


def is_signed(secret: bytes, line: bytes) -> bool:
    """Say whether a line was made with this secret and not changed since."""
    body, found, mac = line.rpartition(_MAC)
    expected = mac_of(secret, b"line\x1f" + body + b"}").encode() + b'"}'
    return bool(found) and hmac.compare_digest(mac, expected)


def mac_of(secret: bytes, content: bytes) -> str:
    """Return the HMAC of a content."""
    return hmac.new(secret, content, hashlib.sha256).hexdigest()
