"""PNG files put together part by part: what Pillow takes without a word is refused or said."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import png_file
from png_file import part
from sitelora.data.errors import UnfitFileError
from sitelora.data.png import DamageError, read_png
from sitelora.data.rules import read_image, read_label

ROWS = [bytes([n] * 8) for n in range(6)]


def png(rows: list[bytes] = ROWS, **options: Any) -> bytes:
    """Return a picture of 8 x 6 pixels, whatever rows it has."""
    return png_file.png(rows, 8, height=6, **options)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png(ROWS[:3]), "holds 27 of the 54 bytes of its pixels"),
        (png(pack=lambda raw: zlib.compress(raw)[:-4]), "checksum of its pixels is cut"),
        (png(pack=lambda raw: zlib.compress(raw)[:-1] + b"\0"), "pixels are damaged"),
        (png(pack=lambda raw: b""), "holds 0 of the 54 bytes"),
        (png(colour=3), "without its palette"),
        (png(depth=3), "8 x 6 pixels, 3 bits"),
    ],
)
def test_damage_is_told(content: bytes, said: str) -> None:
    with pytest.raises(DamageError, match=said):
        read_png(content)


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_a_transparent_level_is_seen_at_every_depth(depth: int, tmp_path: Path) -> None:
    row = {2: b"\x1b\x1b", 4: b"\x01\x23\x01\x23", 8: bytes(range(8)), 16: bytes(range(16))}[depth]
    file, level = tmp_path / "a.png", {2: 2, 4: 2, 8: 2, 16: 0x0203}[depth]
    file.write_bytes(png([row] * 6, depth=depth, extra=part(b"tRNS", struct.pack(">H", level))))
    with pytest.raises(UnfitFileError, match=r"picture of (6|12) transparent pixel"):
        read_image(file)
    file.write_bytes(png([row] * 6, depth=depth, extra=part(b"tRNS", struct.pack(">H", level + 90))))
    if depth >= 8:
        assert "hides nothing" in read_image(file).remarks[0]


def test_two_and_four_bits_are_label_values_and_grey_with_opacity_of_sixteen_bits_is_grey(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png([b"\x1b\x1b"] * 6, depth=2))
    assert read_label(file).values[0].tolist() == [0, 1, 2, 3] * 2
    grey = np.full((8, 2), 65535, ">u2")
    grey[:, 0] = np.arange(8) * 257
    file.write_bytes(png([grey.tobytes()] * 6, depth=16, colour=4))
    found = read_image(file)
    assert found.values[0].tolist() == list(range(8))
    assert "16 bits a grey value, of which 8 are read" in found.remarks


def test_an_index_beyond_the_palette_is_no_colour_but_may_be_a_label(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(colour=3, extra=part(b"PLTE", bytes(9))))
    with pytest.raises(UnfitFileError, match="a palette of 3 colours and pixels of colour 5"):
        read_image(file)
    assert read_label(file).values.max() == 5


def test_an_orientation_that_viewers_follow_is_said(tmp_path: Path) -> None:
    from PIL import Image

    note = Image.Exif()
    note[0x0112] = 6
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "a.png", exif=note)
    found = read_image(tmp_path / "a.png")
    assert found.values.shape == (6, 8)
    assert "EXIF" in found.remarks[0]


def test_a_picture_beyond_what_is_read_is_told_by_its_size_and_one_below_without_a_word(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Pillow speaks of an attack."""
    side = 16_000
    file = tmp_path / "large.png"
    file.write_bytes(png_file.png([], side, height=side))
    with pytest.raises(UnfitFileError) as refused:
        read_image(file)
    said = str(refused.value)
    assert "found a picture of 16000 x 16000 pixels, 256,000,000 in all, expected at most 178,956,970" in said
    assert "; export it smaller" in said
    assert "attack" not in said
    row = bytes(10_000 // 8)
    assert read_png(png_file.png([row] * 10_000, 10_000, depth=1)).values.shape == (10_000, 10_000)
    assert not recwarn.list
