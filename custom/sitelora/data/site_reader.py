"""The reader that the bundles give to MONAI's ``LoadImaged``: files by the rules that ``sitelora check`` judges by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data.image_reader import ImageReader
from monai.utils import MetaKeys, SpaceKeys

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.errors import SiteDataError
from sitelora.data.reading import Pixels
from sitelora.data.rules import CHANNELS, read_image, read_label, require_kind

logger = logging.getLogger(__name__)


class SiteReader(ImageReader):
    """Reads one file as an image or as a label; what it refuses, no other reader of MONAI's is asked for.

    ``LoadImage`` goes on to its own readers when a given one fails in ``read``. So ``read`` only takes the name, and
    ``get_data`` reads and refuses.

    Args:
        kind: "image" or "label".
        pictures: whether pictures are expected, or volumes; ``None`` takes both.
        classes: of a label, structures beside the background: values from 0 to this; ``None`` takes any whole number.
        channels: of an image, how many values a voxel may have.
    """

    def __init__(
        self,
        kind: str = "image",
        pictures: bool | None = None,
        classes: int | None = None,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        super().__init__()
        if kind not in ("image", "label"):
            raise ValueError(f"SiteReader: found kind={kind!r}, expected 'image' or 'label'")
        self.kind, self.pictures, self.classes, self.channels = kind, pictures, classes, tuple(channels)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Say whether the name ends as a NIfTI or PNG file, in any case of letters."""
        return all(str(name).lower().endswith(VOLUMES + PICTURES) for name in _names(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Path]:
        """Return the names of the files; nothing is opened yet."""
        return [Path(name) for name in _names(data)]

    def get_data(self, img: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the file.

        Returns:
            fp32 values: a volume ``[X, Y, Z]``, a picture ``[W, H]`` as MONAI's own reader gives it, channels last
            where there are several; and MONAI's metadata.

        Raises:
            SiteDataError: several files, or one that is unreadable or unfit.
        """
        if len(img) != 1:
            raise SiteDataError(f"found {len(img)} files for one {self.kind}, expected one: {', '.join(map(str, img))}")
        listed = None if self.classes is None else range(self.classes + 1)
        pixels = read_image(img[0], self.channels) if self.kind == "image" else read_label(img[0], listed)
        if self.pictures is not None:
            require_kind(pixels, img[0], pictures=self.pictures)
        for remark in pixels.remarks:
            logger.warning("%s: %s", img[0].name, remark)
        return self.as_monai(pixels)

    @staticmethod
    def as_monai(pixels: Pixels) -> tuple[np.ndarray, dict[str, Any]]:
        """Return values and metadata as `get_data` does."""
        values = pixels.values.astype(np.float32, copy=False)
        meta: dict[str, Any] = {}
        if pixels.affine is None:
            values = np.moveaxis(values, 0, 1)
        else:
            meta = {
                MetaKeys.AFFINE: pixels.affine.copy(),
                MetaKeys.ORIGINAL_AFFINE: pixels.affine.copy(),
                MetaKeys.SPACE: SpaceKeys.RAS,
            }
        axes = len(pixels.extent)
        meta[MetaKeys.SPATIAL_SHAPE] = np.asarray(values.shape[:axes])
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = float("nan") if values.ndim == axes else -1
        return values, meta


def _names(data: Sequence[PathLike] | PathLike) -> list[PathLike]:
    return list(data) if isinstance(data, (list, tuple)) else [data]  # type: ignore[list-item]
