"""Open one image or label file as an array with its geometry: NIfTI for volumes, PNG for pictures.

The only place where an ending means something. The content decides: a gzip under ``.nii`` is unpacked, a PNG that
is called ``.nii`` is refused by name. A file is read to its end, checksums included.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.errors import UnfitFileError

_GZIP, _PNG = b"\x1f\x8b", b"\x89PNG\r\n\x1a\n"
_OTHERS = {b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"PK\3\4": "ZIP"}


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What a file holds.

    Attributes:
        values: ``[X, Y, Z]`` or ``[X, Y, Z, channels]`` of a volume, ``[H, W]`` or ``[H, W, channels]`` of a
            picture (MONAI's ``LoadImaged`` gives pictures transposed, ``[W, H]``, image and label alike).
        affine: ``[4, 4]`` voxel index to RAS+ mm, ``None`` for a picture.
        palette: ``[entries, 3]`` colours of a picture whose values are indices.
        alpha: ``[H, W]`` opacity of a picture that has it beside its values (a transparent colour in the file).
        remarks: what is to be said about the file though it can be used.
    """

    values: np.ndarray
    affine: np.ndarray | None
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    remarks: tuple[str, ...] = ()

    @property
    def extent(self) -> tuple[int, ...]:
        """The shape without channels: three axes of a volume, two of a picture."""
        return self.values.shape[: 2 if self.affine is None else 3]

    @property
    def channels(self) -> int:
        """How many values a voxel has."""
        return int(np.prod(self.values.shape[len(self.extent) :]))

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Voxel size along the array's axes, ``None`` for a picture."""
        if self.affine is None:
            return None
        return tuple(float(step) for step in np.linalg.norm(self.affine[:3, :3], axis=0))


class _Damage(Exception):
    """What is wrong with the content of a file, in the words of the message."""


def read_pixels(path: Path) -> Pixels:
    """Read a NIfTI or PNG file.

    Raises:
        UnfitFileError: the file is missing, of another kind, damaged, or of a shape that no image has.
    """
    path = Path(path)
    name = path.name.lower()
    again = "export it again, or take the case out of dataset.json"
    if not name.endswith(VOLUMES + PICTURES):
        found = f"a file that ends in {path.suffix}" if path.suffix else "a file without ending"
        raise UnfitFileError(path, found, f"one in {', '.join(VOLUMES + PICTURES)}", "convert it")
    try:
        content = _content(path)
        pixels = _volume(content) if name.endswith(VOLUMES) else _picture(content)
    except _Damage as damage:
        raise UnfitFileError(path, str(damage), "a readable NIfTI or PNG file", again) from damage
    except Exception as error:  # damaged files raise whatever zlib, nibabel or Pillow stumble over
        found = f"a file that is not readable ({type(error).__name__}: {error})"
        raise UnfitFileError(path, found, "a readable NIfTI or PNG file", again) from error
    axes = (2, 3) if pixels.affine is None else (3, 4)
    if pixels.values.ndim not in axes or pixels.values.size == 0:
        found, expected = f"shape {pixels.values.shape}", f"{axes[0]} axes, or one more for channels"
        raise UnfitFileError(path, found, expected, again)
    if pixels.values.dtype.kind not in "buif":
        raise UnfitFileError(path, f"{pixels.values.dtype} values", "real numbers", "export magnitudes, or grey")
    return pixels


def _content(path: Path) -> bytes:
    if not path.is_file():
        if "\\" in path.name:
            raise _Damage("no such file; paths are written with / and not with \\")
        gone = path.is_symlink() and not path.exists()
        raise _Damage("a link that leads nowhere" if gone else "a folder" if path.is_dir() else "no such file")
    content = path.read_bytes()
    if content.startswith(_GZIP):
        content = gzip.decompress(content)  # checks length and CRC of the whole
    if not content:
        raise _Damage("a file that is not readable (it is empty)")
    return content


def _volume(content: bytes) -> Pixels:
    small, large = content[344:348], content[4:8]
    if content.startswith(_PNG):
        raise _Damage("a PNG picture under a NIfTI name")
    if small == b"ni1\0":
        raise _Damage("the header of a .hdr/.img pair and not one NIfTI file")
    if small != b"n+1\0" and large != b"n+2\0":
        raise _Damage(f"a file that is not readable (no NIfTI file{_looks_like(content)})")
    kind: Any = nib.Nifti2Image if large == b"n+2\0" else nib.Nifti1Image
    image = kind.from_bytes(content)
    stored = image.dataobj
    if stored.offset < kind.header_class.single_vox_offset:
        raise _Damage(
            f"a file that is not readable (its voxels are said to begin at byte {stored.offset}, in the header)"
        )
    needed = int(stored.offset) + stored.dtype.itemsize * int(np.prod(stored.shape, dtype=object))
    if needed > len(content):
        raise _Damage(f"a file that is not readable (its header speaks of {needed} bytes, there are {len(content)})")
    values = np.asanyarray(stored)
    remarks = []
    unit = image.header.get_xyzt_units()[0]
    if unit in ("meter", "micron"):
        remarks.append(f"voxel sizes in {unit}s, read as mm: scores in mm will be wrong")
    while values.ndim > 3 and values.shape[3] == 1:  # an axis of one phase or one channel says nothing
        values = values[:, :, :, 0]
    return Pixels(values=values, affine=np.asarray(image.affine, np.float64), remarks=tuple(remarks))


def _picture(content: bytes) -> Pixels:
    if not content.startswith(_PNG):
        raise _Damage(f"a file that is not readable (no PNG file{_looks_like(content)})")
    chunks = _chunks(content)
    depth, colour = chunks[b"IHDR"][8], chunks[b"IHDR"][9]
    remarks = []
    if b"acTL" in chunks:
        remarks.append("an animated picture, of which the first frame is read")
    if depth == 16 and colour in (2, 6):
        remarks.append("16 bits a colour, of which 8 are read")
    with Image.open(BytesIO(content)) as picture:
        values = np.asarray(picture)
        palette = alpha = None
        if picture.mode == "P":
            palette = np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        if b"tRNS" in chunks:
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    if colour == 0 and depth in (2, 4):
        values = values // (255 // (2**depth - 1))  # Pillow spreads the levels over 0 to 255
    return Pixels(values=values, affine=None, palette=palette, alpha=alpha, remarks=tuple(remarks))


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """Return a PNG file's chunks by name; the last of a name counts.

    Raises:
        _Damage: a checksum is wrong or the end is missing.
    """
    found: dict[bytes, bytes] = {}
    place = len(_PNG)
    while b"IEND" not in found:
        if place + 12 > len(content):
            raise _Damage("a file that is not readable (the file is cut)")
        length, name = struct.unpack(">I4s", content[place : place + 8])
        end = place + 8 + length
        if end + 4 > len(content):
            raise _Damage("a file that is not readable (the file is cut)")
        if zlib.crc32(content[place + 4 : end]) != struct.unpack(">I", content[end : end + 4])[0]:
            raise _Damage(f"a file that is not readable (the checksum of its {name.decode('latin-1')} part is wrong)")
        found[name] = content[place + 8 : end] if name != b"IDAT" else b""
        place = end + 4
    if len(found.get(b"IHDR", b"")) != 13:
        raise _Damage("a file that is not readable (no PNG header)")
    return found


def _looks_like(content: bytes) -> str:
    kinds = [kind for start, kind in (_OTHERS | {_PNG: "PNG"}).items() if content.startswith(start)]
    if content[128:132] == b"DICM":
        kinds = ["DICOM"]
    if content[344:348] in (b"n+1\0", b"ni1\0"):
        kinds = ["NIfTI"]
    return f", it looks like {kinds[0]}" if kinds else ""
