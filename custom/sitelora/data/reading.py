"""Open one image or label file as an array with its geometry: NIfTI for volumes, PNG for pictures.

The only place where an ending means something. The content decides: a gzip under ``.nii`` is unpacked, a PNG that
is called ``.nii`` is refused by name. A file is read to its end, checksums included.
"""

from __future__ import annotations

import gzip
import io
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.errors import UnfitFileError
from sitelora.data.png import SIGNATURE, DamageError, read_png
from sitelora.disk import GIVE_RIGHT, NOT_READABLE

GZIP = b"\x1f\x8b"
HEADER = 540
"""Bytes that the header of either form of NIfTI has."""
AGAIN = "export it again, or take the case out of dataset.json"
_READABLE = "a readable NIfTI or PNG file"
_OTHERS = {b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"PK\3\4": "ZIP"}
_OTHERS |= {b"RIFF": "WebP", b"NRRD": "NRRD", b"ObjectType": "MetaImage", b"%PDF": "PDF"}


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


def read_pixels(path: Path) -> Pixels:
    """Read a NIfTI or PNG file.

    Raises:
        UnfitFileError: the file is missing, of another kind, damaged, or of a shape that no image has.
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith(VOLUMES + PICTURES):
        found = f"a file that ends in {path.suffix}" if path.suffix else "a file without ending"
        raise UnfitFileError(path, found, f"one in {', '.join(VOLUMES + PICTURES)}", "convert it")
    try:
        content = _content(path)
        pixels = _volume(content) if name.endswith(VOLUMES) else _picture(content)
    except Exception as error:  # damaged files raise whatever zlib, nibabel or Pillow stumble over
        raise unreadable(path, error) from error
    return with_axes(pixels, path)


def unreadable(path: Path, error: Exception) -> UnfitFileError:
    """Return what is said of a file for what opening it has raised: closed, damaged, or beyond a library."""
    if isinstance(error, PermissionError):
        return UnfitFileError(path, NOT_READABLE, _READABLE, GIVE_RIGHT)
    if isinstance(error, DamageError):
        return UnfitFileError(path, str(error), error.expected or _READABLE, error.remedy or AGAIN)
    return UnfitFileError(path, f"a file that is not readable ({type(error).__name__}: {error})", _READABLE, AGAIN)


def with_axes(pixels: Pixels, path: Path) -> Pixels:
    """Return the same pixels.

    Raises:
        UnfitFileError: they are of a shape or of a type that no image has.
    """
    axes = (2, 3) if pixels.affine is None else (3, 4)
    if pixels.values.ndim not in axes or pixels.values.size == 0:
        found, expected = f"shape {pixels.values.shape}", f"{axes[0]} axes, or one more for channels"
        raise UnfitFileError(path, found, expected, AGAIN)
    if pixels.values.dtype.kind not in "buif":
        raise UnfitFileError(path, f"{pixels.values.dtype} values", "real numbers", "export magnitudes, or grey")
    return pixels


def _content(path: Path) -> bytes:
    if not path.is_file():
        if "\\" in path.name:
            raise DamageError("no such file; paths are written with / and not with \\")
        raise DamageError(_what_is_there(path))
    content = path.read_bytes()
    if content.startswith(GZIP):
        content = gzip.decompress(content)  # checks length and CRC of the whole
    if not content:
        raise DamageError("a file that is not readable (it is empty)")
    return content


def _what_is_there(path: Path) -> str:
    """Return what stands in place of a file: a folder, a pipe, a link to nowhere, or a file that is named otherwise."""
    if path.is_dir():
        return "a folder"
    if path.exists():
        return "a pipe or a device, which is no file to read twice"
    if path.is_symlink():
        return "a link that leads nowhere"
    folded = _folded(path.name)
    for other in path.parent.iterdir() if path.parent.is_dir() else ():
        if _folded(other.name) == folded:
            return f"no such file, but one named {other.name!a} (other letters, blanks or form of its characters)"
    return "no such file"


def _folded(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _volume(content: bytes) -> Pixels:
    image = nifti_of(content[:HEADER], len(content), io.BytesIO(content))
    values = np.asanyarray(image.dataobj)
    return Pixels(values=squeezed(values), affine=np.asarray(image.affine, np.float64), remarks=remarks_on(image))


def nifti_of(start: bytes, length: int, stream: BinaryIO) -> Any:
    """Return a NIfTI image of which only the header is read.

    Args:
        start: the file's first bytes, ``HEADER`` of them. length: bytes of the whole file. stream: the file, unpacked.

    Raises:
        DamageError: it is no NIfTI file, or too short for what its header says.
    """
    small, large = start[344:348], start[4:8]
    if start.startswith(SIGNATURE):
        raise DamageError("a PNG picture under a NIfTI name")
    if small == b"ni1\0":
        raise DamageError("the header of a .hdr/.img pair and not one NIfTI file")
    if small != b"n+1\0" and large != b"n+2\0":
        raise DamageError(f"a file that is not readable (no NIfTI file{_looks_like(start)})")
    kind: Any = nib.Nifti2Image if large == b"n+2\0" else nib.Nifti1Image
    image = kind.from_stream(stream)
    stored = image.dataobj
    if stored.offset < kind.header_class.single_vox_offset:
        raise DamageError(
            f"a file that is not readable (its voxels are said to begin at byte {stored.offset}, in the header)"
        )
    needed = int(stored.offset) + stored.dtype.itemsize * int(np.prod(stored.shape, dtype=object))
    if needed > length:
        raise DamageError(f"a file that is not readable (its header speaks of {needed} bytes, there are {length})")
    return image


def squeezed(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return a volume without a fourth axis of one phase or one channel, which says nothing."""
    while values.ndim > 3 and values.shape[3] == 1:
        values = values[:, :, :, 0]
    return values


def remarks_on(image: Any) -> tuple[str, ...]:
    """Return what is to be said of a NIfTI image's geometry though it can be used."""
    unit = image.header.get_xyzt_units()[0]
    units = [f"voxel sizes in {unit}s, read as mm: scores in mm will be wrong"] if unit in ("meter", "micron") else []
    return (*units, *_places(image.header))


def _places(header: Any) -> list[str]:
    """Return what is to be said where programs may put the volume elsewhere than we do, who prefer the sform."""
    sform = header.get_sform(coded=True)[0]
    try:
        qform = header.get_qform(coded=True)[0]
    except (ValueError, nib.spatialimages.HeaderDataError):  # no rotation; beside an sform it is read by nobody here
        qform = None
    if sform is None and qform is None:
        return ["no position in the body (no sform, no qform): left and right are a guess"]
    if sform is None or qform is None:
        return []
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array((*header.get_data_shape(), 1, 1)[:3]) - 1)
    apart_mm = np.linalg.norm((sform - qform) @ np.column_stack([corners, np.ones(8)]).T, axis=0).max()
    if not apart_mm >= 0.1 * np.linalg.norm(sform[:3, :3], axis=0).min():
        return []
    return [f"two positions up to {apart_mm:.4g} mm apart (sform and qform), of which the sform is read"]


def _picture(content: bytes) -> Pixels:
    if not content.startswith(SIGNATURE):
        raise DamageError(f"a file that is not readable (no PNG file{_looks_like(content)})")
    found = read_png(content)
    return Pixels(values=found.values, affine=None, palette=found.palette, alpha=found.alpha, remarks=found.remarks)


def _looks_like(content: bytes) -> str:
    kinds = [kind for start, kind in (_OTHERS | {SIGNATURE: "PNG"}).items() if content.startswith(start)]
    if content[128:132] == b"DICM":
        kinds = ["DICOM"]
    if content[344:348] in (b"n+1\0", b"ni1\0"):
        kinds = ["NIfTI"]
    return f", it looks like {kinds[0]}" if kinds else ""
