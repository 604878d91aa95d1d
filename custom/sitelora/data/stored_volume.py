"""A NIfTI volume that is read a part at a time, so that its length asks for disk and not for memory.

What is packed is unpacked into a folder of the caller's, to its end and with its checksum, and looked at through a
memory map. Every part is judged by the rules of a whole image and has its very bits.
"""

from __future__ import annotations

import gzip
import mmap
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from sitelora.data.endings import VOLUMES
from sitelora.data.reading import GZIP, HEADER, Pixels, nifti_of, remarks_on, squeezed, unreadable, with_axes
from sitelora.data.rules import judged_image, require_volume


def extent_of(path: Path) -> tuple[int, ...]:
    """Return how many voxels a volume has along its axes, from its header alone; empty where that cannot be told."""
    if not path.name.lower().endswith(VOLUMES):
        return ()
    try:
        with _unpacked(path) as stream:
            start = stream.read(HEADER)
        with _unpacked(path) as stream:
            return tuple(nifti_of(start, 1 << 62, stream).shape)
    except Exception:  # whatever is wrong with it is said when it is read
        return ()


@dataclass(frozen=True, kw_only=True)
class StoredVolume:
    """A volume on disk.

    Attributes:
        path: the file that was opened. remarks: what is to be said about it.
        stored: ``[X, Y, Z]`` or ``[X, Y, Z, channels]`` as it is stored, a memory map.
        slope, intercept: from stored to real values.
        affine: ``[4, 4]`` voxel index to RAS+ mm.
    """

    path: Path
    remarks: tuple[str, ...]
    stored: NDArray[np.generic]
    slope: float
    intercept: float
    affine: NDArray[np.float64]

    @classmethod
    def open(cls, path: Path, scratch: Path) -> StoredVolume:
        """Open a NIfTI file.

        Args:
            path: the file. scratch: a folder that stays as long as the volume is read; a packed file is unpacked there.

        Raises:
            UnfitFileError: it cannot be read to its end, or has a shape that no image has.
            OSError: the scratch folder is full or cannot be written.
        """
        plain = _plain(path, scratch)
        try:
            with plain.open("rb") as stream:
                start = stream.read(HEADER)
                stream.seek(0)
                image = nifti_of(start, plain.stat().st_size, stream)
                proxy: Any = image.dataobj
        except Exception as error:
            raise unreadable(path, error) from error
        stored = np.memmap(plain, proxy.dtype, mode="r", offset=proxy.offset, shape=proxy.shape, order="F")
        affine, remarks = np.asarray(image.affine, np.float64), remarks_on(image)
        pixels = with_axes(Pixels(values=squeezed(stored), affine=affine, remarks=remarks), path)
        require_volume(pixels, path)
        return cls(
            path=path,
            remarks=remarks,
            stored=pixels.values,
            slope=proxy.slope,
            intercept=proxy.inter,
            affine=affine,
        )

    @property
    def axis(self) -> int:
        """The array's axis that is nearest to head-feet, along which the network sees slices."""
        return int(np.flatnonzero(io_orientation(self.affine)[:, 0] == 2)[0])

    @property
    def slices(self) -> int:
        """How many slices there are."""
        return int(self.stored.shape[self.axis])

    def place(self, start: int, stop: int) -> tuple[slice, ...]:
        """Return where slices lie in the array; the first is the lowest in the body."""
        upwards = io_orientation(self.affine)[self.axis, 1] > 0
        along = slice(start, stop) if upwards else slice(self.slices - stop, self.slices - start)
        return tuple(along if axis == self.axis else slice(None) for axis in range(3))

    def part(self, start: int, stop: int) -> Pixels:
        """Return some slices in fp32, as `data.rules.read_image` gives the whole.

        Raises:
            UnfitFileError: they break a rule of images.
        """
        place = self.place(start, stop)
        raw = np.array(self.stored[place], order="K")
        forget(self.stored)
        values = apply_read_scaling(raw, self.slope, self.intercept)
        affine = self.affine.copy()
        affine[:3, 3] += self.affine[:3, self.axis] * (place[self.axis].start or 0)
        return judged_image(Pixels(values=values, affine=affine), self.path)

    def parts(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield all values, ``size`` slices at a time."""
        for start in range(0, self.slices, size):
            yield self.part(start, min(start + size, self.slices)).values


def forget(stored: NDArray[np.generic]) -> None:
    """Let the system take back the memory that a map's pages fill: what was read, or written, is on disk."""
    base: Any = stored
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def _plain(path: Path, scratch: Path) -> Path:
    """Return the file where it is not packed, else what it holds, unpacked."""
    try:
        with path.open("rb") as stream:
            if stream.read(len(GZIP)) != GZIP:
                return path
    except PermissionError as error:
        raise unreadable(path, error) from error
    plain = scratch / "volume.nii"
    with gzip.open(path) as packed, plain.open("wb") as stream:
        try:
            shutil.copyfileobj(packed, stream, 1 << 20)  # checks length and CRC of the whole
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise unreadable(path, error) from error
    return plain


def _unpacked(path: Path) -> Any:
    with path.open("rb") as stream:
        packed = stream.read(len(GZIP)) == GZIP
    return gzip.open(path) if packed else path.open("rb")
