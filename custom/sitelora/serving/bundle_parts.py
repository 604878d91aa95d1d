"""What `inference.json` does around the network: judge the images first, name the masks, keep a volume's axes.

A file that is refused does not stop the others: the rest is done, then the command ends with exit code 1 and a line for
every refused file.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.config import NdarrayOrTensor
from monai.data.image_writer import NibabelWriter, PILWriter
from monai.utils import ImageMetaKey

from sitelora.data.case_names import unique_names
from sitelora.data.endings import stem
from sitelora.data.errors import SiteDataError
from sitelora.data.rules import CHANNELS, read_image, require_kind

logger = logging.getLogger(__name__)


class MaskNames:
    """Names the masks of one run, so that `p0/scan.nii.gz` and `p1/scan.nii.gz` do not become one file.

    A `SaveImaged` takes it as `output_name_formatter`.

    Attributes:
        unanswered: why images that were fit have no answer: what writes the answers knows the run by its names alone.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.unanswered: list[SiteDataError] = []

    def learn(self, images: Sequence[str]) -> None:
        """Take the images of the run; a file that is not among them is named as MONAI would."""
        self.unanswered.clear()
        self._names = unique_names([_plain(image) for image in images])

    def __call__(self, metadict: Mapping[str, Any] | None, saver: Any) -> dict[str, Any]:
        """Return what a `FolderLayout` makes a file name of."""
        # a layout takes the last ending away, so the name is given one
        return {"subject": f"{self.case(metadict)}.nii", "idx": None}

    def case(self, metadict: Mapping[str, Any] | None) -> str:
        """Return the name of the case whose image has these metadata."""
        return self.name(str((metadict or {}).get(ImageMetaKey.FILENAME_OR_OBJ)))

    def name(self, file: str) -> str:
        """Return the name of the case whose image is in this file."""
        return self._names.get(_plain(file), stem(Path(file)))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The images of a run.

    Attributes:
        fit: paths of those that the network sees, in their order.
        refused: why the others are not. unanswered: why some that it saw have no answer; grows while it works.
    """

    fit: tuple[str, ...]
    refused: tuple[SiteDataError, ...]
    unanswered: Sequence[SiteDataError] = ()

    def finish(self) -> None:
        """End the command.

        Raises:
            SystemExit: with code 1 and a line for every refused image, where there is one, or no image at all.
        """
        refused = (*self.refused, *self.unanswered)
        if refused:
            lines = "".join(f"\n  {refusal}" for refusal in refused)
            done = len(self.fit) - len(self.unanswered)
            raise SystemExit(f"{done} of {done + len(refused)} images done; refused:{lines}")
        if not self.fit:
            raise SystemExit(
                "no image to work on: the site has no test cases; name some with --datalist \"['a.nii.gz']\""
            )


def judge_images(
    images: Sequence[str] | str, *, pictures: bool, names: MaskNames, channels: Collection[int] = CHANNELS
) -> Judged:
    """Open every image once by the rules of `sitelora check`, before the network sees one.

    Args:
        images: paths, or one path. pictures: what the network was trained on; volumes otherwise. channels: of them.
        names: learns the images.
    """
    given = [images] if isinstance(images, str) else [str(image) for image in images]
    images = [_as_written(image) for image in given]
    names.learn(images)
    fit, refused = [], []
    for image in images:
        try:
            require_kind(read_image(Path(image).expanduser(), channels), Path(image), pictures=pictures)
        except SiteDataError as refusal:
            logger.error("%s", refusal)
            refused.append(refusal)
        else:
            fit.append(str(image))
    return Judged(fit=tuple(fit), refused=tuple(refused), unanswered=names.unanswered)


class VolumeWriter(NibabelWriter):
    """MONAI's NIfTI writer, which keeps all three axes: a volume of one slice stays ``[X, Y, 1]``."""

    def set_data_array(
        self, data_array: NdarrayOrTensor, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """Take the voxels ``[1, X, Y, Z]``."""
        super().set_data_array(data_array, channel_dim, squeeze_end_dims, **kwargs)
        while self.data_obj.ndim < 3:
            self.data_obj = self.data_obj[..., None]


class PictureWriter(PILWriter):
    """MONAI's PNG writer, which keeps both axes: a picture of one row or one pixel stays ``[W, H]``."""

    def set_data_array(
        self,
        data_array: NdarrayOrTensor,
        channel_dim: int | None = 0,
        squeeze_end_dims: bool = True,
        contiguous: bool = False,
        **kwargs: Any,
    ) -> None:
        """Take the pixels ``[1, W, H]``."""
        super().set_data_array(data_array, channel_dim, squeeze_end_dims=False, contiguous=contiguous, **kwargs)
        self.data_obj = self.data_obj[..., 0]


def _as_written(image: str) -> str:
    """Return a path as a person wrote it: MONAI makes ``::`` of every ``#`` in a value."""
    restored = image.replace("::", "#")
    return restored if not Path(image).expanduser().exists() and Path(restored).expanduser().exists() else image


def _plain(image: Any) -> str:
    return str(Path(str(image)).expanduser())
