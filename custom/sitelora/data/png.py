"""A PNG file's pixels as they are stored, every byte accounted for.

Pillow turns the pixels out, but it takes a picture whose last rows are missing (they become zeros) or whose checksum is
cut off, and it knows no transparent level of grey below or above 8 bits. So the file's parts are read here first.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values of a pixel by colour type: grey, colours, palette, grey with opacity, colours with opacity."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced picture: first column, first row, step of columns, step of rows."""
_TURNED = 0x0112
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**62)
"""Of a picture: where Pillow stops, and speaks of an attack. It does so as a warning from half of it on."""
SMALLER = "export it smaller, or take the case out of dataset.json"


class DamageError(Exception):
    """What is wrong with the content of a file, in the words of the message.

    Args:
        found: what is there. expected, remedy: in place of what is said of a damaged file.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        super().__init__(found)
        self.expected, self.remedy = expected, remedy


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a PNG file holds.

    Attributes:
        values: ``[H, W]`` or ``[H, W, channels]``.
        palette: ``[entries, 3]`` colours where the values are indices.
        alpha: ``[H, W]`` opacity from a transparent colour or from a palette's; a channel of opacity is in the values.
        remarks: what is to be said about the file though it can be used.
    """

    values: np.ndarray
    palette: np.ndarray | None
    alpha: np.ndarray | None
    remarks: tuple[str, ...]


def read_png(content: bytes) -> Picture:
    """Read a PNG file.

    Raises:
        DamageError: it is cut, a checksum is wrong, or it is against the format.
    """
    chunks = _chunks(content)
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    if width * height > MOST_PIXELS:
        found = f"a picture of {width} x {height} pixels, {width * height:,} in all"
        raise DamageError(found, f"at most {MOST_PIXELS:,}, where reading stops", SMALLER)
    remarks = []
    if b"acTL" in chunks:
        remarks.append("an animated picture, of which the first frame is read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(BytesIO(content))
        with picture:
            _require_all_rows(chunks)
            values = np.asarray(picture)
            palette = alpha = None
            if picture.mode == "P":
                palette = np.frombuffer(chunks.get(b"PLTE", b""), np.uint8).reshape(-1, 3)
            if b"tRNS" in chunks:
                alpha = _opacity(picture, values, chunks[b"tRNS"], depth, colour)
            if b"eXIf" in chunks and picture.getexif().get(_TURNED, 1) != 1:
                remarks.append("a note that viewers turn the picture (EXIF orientation), which is not followed")
    except UnidentifiedImageError as error:
        found = f"a PNG of {width} x {height} pixels, {depth} bits, colour type {colour}"
        raise DamageError(f"a file that is not readable ({found})") from error
    if depth == 16 and colour != 0:
        remarks.append(f"16 bits a {'colour' if colour in (2, 6) else 'grey value'}, of which 8 are read")
        if colour == 4:
            values = values[..., [0, 3]]  # Pillow gives the grey three times
    if palette is not None and len(palette) == 0:
        raise DamageError("a file that is not readable (a palette picture without its palette)")
    if colour == 0 and depth in (2, 4):
        values = values // (255 // (2**depth - 1))  # Pillow spreads the levels over 0 to 255
    return Picture(values=values, palette=palette, alpha=alpha, remarks=tuple(remarks))


def _opacity(picture: Image.Image, values: np.ndarray, clear: bytes, depth: int, colour: int) -> np.ndarray:
    """Return the opacity that a transparent level of grey, a transparent colour or a palette's opacities give."""
    if colour == 3 or depth == 8:
        return np.asarray(picture.convert("RGBA"))[..., 3]
    levels = np.frombuffer(clear, ">u2").astype(np.int64)
    if colour == 0 and depth < 8:
        levels = levels * (255 // (2**depth - 1))
        values = values.astype(np.int64) * (255 if values.dtype == bool else 1)
    elif colour == 2:
        levels = levels >> 8  # as Pillow reads the values; what is near counts as transparent too
    hidden = values == levels if values.ndim == 2 else (values == levels).all(axis=-1)
    return np.where(hidden, 0, 255).astype(np.uint8)


def _require_all_rows(chunks: dict[bytes, bytes]) -> None:
    """Refuse a picture whose packed pixels end early or lack their checksum."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    bits = depth * CHANNELS.get(colour, 1)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes]
    needed = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
    unpacking = zlib.decompressobj()
    try:
        found = len(unpacking.decompress(chunks.get(b"IDAT", b""), needed + 1))
    except zlib.error as error:
        raise DamageError(f"a file that is not readable (its pixels are damaged: {error})") from error
    if found < needed:
        raise DamageError(f"a file that is not readable (it holds {found} of the {needed} bytes of its pixels)")
    if found == needed and not unpacking.eof:
        raise DamageError("a file that is not readable (the checksum of its pixels is cut)")


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """Return a PNG file's chunks by name; the last of a name counts, of pixels all together.

    Raises:
        DamageError: a checksum is wrong or the end is missing.
    """
    found: dict[bytes, bytes] = {}
    pixels = []
    place = len(SIGNATURE)
    while b"IEND" not in found:
        if place + 12 > len(content):
            raise DamageError("a file that is not readable (the file is cut)")
        length, name = struct.unpack(">I4s", content[place : place + 8])
        end = place + 8 + length
        if end + 4 > len(content):
            raise DamageError("a file that is not readable (the file is cut)")
        if zlib.crc32(content[place + 4 : end]) != struct.unpack(">I", content[end : end + 4])[0]:
            part = name.decode("latin-1")
            raise DamageError(f"a file that is not readable (the checksum of its {part} part is wrong)")
        if name == b"IDAT":
            pixels.append(content[place + 8 : end])
        else:
            found[name] = content[place + 8 : end]
        place = end + 4
    if len(found.get(b"IHDR", b"")) != 13:
        raise DamageError("a file that is not readable (no PNG header)")
    return {**found, b"IDAT": b"".join(pixels)}
