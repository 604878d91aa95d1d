"""PNG files put together part by part, so that a test can have what no library writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def part(name: bytes, content: bytes) -> bytes:
    """Return one part of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    rows: list[bytes],
    width: int,
    *,
    height: int | None = None,
    depth: int = 8,
    colour: int = 0,
    extra: bytes = b"",
    pack: Callable[[bytes], bytes] = zlib.compress,
) -> bytes:
    """Return a PNG file of rows as they are stored.

    Args:
        height: that the header speaks of; by default that of the rows.
    """
    header = struct.pack(">IIBBBBB", width, len(rows) if height is None else height, depth, colour, 0, 0, 0)
    pixels = pack(b"".join(b"\0" + row for row in rows))
    return SIGNATURE + part(b"IHDR", header) + extra + part(b"IDAT", pixels) + part(b"IEND", b"")
