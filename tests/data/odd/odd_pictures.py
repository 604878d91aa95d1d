"""Odd and wrong PNG files, put together part by part: bits, transparency, interlace, notes, missing rows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from drafts import Draft, File
from PIL import Image
from register import each, fits, pictures, refused

from png_file import SIGNATURE, part, png

Damage = Callable[[bytes], bytes]


def stored(file: File, **options: Any) -> None:
    """Make a file what ``png`` makes of its rows; of fewer than 8 bits, the values are bytes of several pixels."""
    rows = [row.tobytes() for row in file.values]
    content = png(rows, file.values.shape[1] * max(1, 8 // max(1, options.get("depth", 8))), **options)
    file.damage, file.raw = lambda raw: content, True


def any_image(draft: Draft) -> File:
    """Return one of the images, drawn."""
    pictures(draft)
    return draft.images[draft.any()]


@fits
def two_or_four_bits(draft: Draft) -> None:
    pictures(draft)
    depth = int(draft.rng.choice([2, 4]))
    each_byte = 8 // depth
    for file in each(draft):
        levels = (file.values > 110).astype(np.uint8) if any(file is image for image in draft.images) else file.values
        levels = levels.reshape(len(levels), -1, each_byte)
        file.values = sum(levels[..., n] << (8 - depth * (n + 1)) for n in range(each_byte)).astype(np.uint8)
        stored(file, depth=depth)


@fits
def grey_of_sixteen_bits_with_opacity(draft: Draft) -> None:
    pictures(draft)
    for file in draft.images:
        grey = file.values.astype(">u2") * 257
        file.values = np.stack([grey, np.full_like(grey, 65535)], -1)
        stored(file, depth=16, colour=4)


@fits
def interlaced(draft: Draft) -> None:
    file = any_image(draft)
    # what Pillow cannot write: seven passes of the picture's rows
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [row for x, y, dx, dy in passes for row in file.values[y::dy, x::dx] if row.size]
    header = struct.pack(">IIBBBBB", *file.values.shape[::-1], 8, 0, 0, 0, 1)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    content = SIGNATURE + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")
    file.damage = lambda raw: content


@fits
def turned_by_viewers(draft: Draft) -> None:
    file = any_image(draft)
    note = Image.Exif()
    note[0x0112] = int(draft.rng.choice([3, 6, 8]))
    file.header = {"exif": note}


@fits
def animated(draft: Draft) -> None:
    file = any_image(draft)
    file.header = {"save_all": True, "append_images": [Image.fromarray(255 - file.values)]}


@fits
def something_behind_the_end(draft: Draft) -> None:
    any_image(draft).damage = lambda raw: raw + b"garbage" * 9


@fits
def a_transparent_level_that_does_not_occur(draft: Draft) -> None:
    file = any_image(draft)
    file.values = np.maximum(file.values, 1)
    stored(file, extra=part(b"tRNS", b"\0\0"))


@refused
def a_transparent_level(draft: Draft) -> None:
    file = any_image(draft)
    depth = int(draft.rng.choice([2, 4, 8, 16]))
    if depth == 16:
        file.values = file.values.astype(">u2")
        level = int(file.values[3, 3])
        stored(file, depth=16, extra=_clear(level))
        return
    file.values[:] = 0x11 if depth == 4 else 0x55 if depth == 2 else 1
    stored(file, depth=depth, extra=_clear(1))


@refused
def a_palette_without_colours(draft: Draft) -> None:
    few = part(b"PLTE", bytes(6)) if draft.rng.integers(2) else b""
    file = any_image(draft)
    file.values[:2] = 200
    stored(file, colour=3, extra=few)


@refused
def rows_that_are_missing(draft: Draft) -> None:
    pictures(draft)
    file: File = draft.rng.choice(np.array(each(draft), object))
    packs: list[Damage] = [
        lambda raw: zlib.compress(raw[: len(raw) // 2]),
        lambda raw: zlib.compress(raw)[:-4],
        lambda raw: zlib.compress(raw)[:-2],
        lambda raw: zlib.compress(raw)[:-20],
    ]
    stored(file, pack=packs[int(draft.rng.integers(4))])


@refused
def another_picture_format(draft: Draft) -> None:
    file: File = draft.rng.choice(np.array([any_image(draft), *each(draft)[4:]], object))
    picture = Image.fromarray(file.values)
    kind, mode = [("jpeg", "CMYK"), ("jpeg", "L"), ("gif", "P"), ("webp", "RGB"), ("bmp", "L"), ("tiff", "L")][
        int(draft.rng.integers(6))
    ]
    out = BytesIO()
    picture.convert(mode).save(out, kind)
    file.damage = lambda raw: out.getvalue()


@refused
def a_mask_that_was_a_jpeg(draft: Draft) -> None:
    pictures(draft)
    file = draft.masks[draft.any()]
    out = BytesIO()
    Image.fromarray(file.values * np.uint8(255)).save(out, "jpeg", quality=60)
    file.values = np.asarray(Image.open(out))


@refused
def against_the_format(draft: Draft) -> None:
    file = any_image(draft)
    odd: list[dict[str, Any]] = [{"depth": 3}, {"colour": 5}, {"colour": 1}, {"depth": 0}]
    stored(file, **odd[int(draft.rng.integers(4))])


def _clear(level: int) -> bytes:
    return part(b"tRNS", struct.pack(">H", level))
