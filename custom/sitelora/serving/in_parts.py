"""A long volume a stack of slices at a time, with the bits of the whole: what the memory holds does not grow with it.

A stack is a whole number of the batches of windows that MONAI's sliding window makes of the whole volume, so every
window is computed in the same company; the last one, which reaches back where the length is no multiple, falls into
the last stack. Resizing within a slice, softmax and argmax look at no other slice. The two percentiles of the whole
volume are counted first (`data.exact_percentiles`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    Orientationd,
    Resized,
    SaveImaged,
)
from numpy.typing import NDArray
from torch import Tensor

from sitelora.data.exact_percentiles import exact_percentiles
from sitelora.data.intensity import ScalePercentilesd
from sitelora.data.reading import Pixels
from sitelora.data.rules import refuse_one_value
from sitelora.data.site_reader import SiteReader
from sitelora.data.stored_volume import StoredVolume, forget
from sitelora.data.trained_on import Facts
from sitelora.serving.answer import answered, quick, require_numbers
from sitelora.serving.open_model import OpenModel
from sitelora.serving.outputs import Wanted, keep_largest, probability_file, write_volume

_BEFORE = (LoadImaged, EnsureChannelFirstd, Orientationd, ScalePercentilesd, Resized, EnsureTyped)
_AFTER = (Activationsd, Invertd, AsDiscreted, SaveImaged)
_VALUES = 1 << 22
"""Values of a stack, at most, unless the smallest stack has more."""


class _PartReader(SiteReader):
    """Gives a part that is at hand in place of the file that is named."""

    def __init__(self, part: Pixels) -> None:
        super().__init__()
        self._part = part

    def get_data(self, img: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the part."""
        return self.as_monai(self._part)


def goes_in_parts(config: ConfigParser) -> bool:
    """Say whether nothing in a bundle's inference looks beyond a stack of slices, but the percentiles."""
    part = config.get_parsed_content
    inferer = part("inferer")
    return (
        isinstance(inferer, SlidingWindowInferer)
        and not np.any(inferer.overlap)
        and "slices" in config
        and list(part("patch_size")) == [*part("in_plane_size")[:2], part("slices")]
        and all(isinstance(step, _BEFORE) for step in part("preprocessing").transforms)
        and all(isinstance(step, _AFTER) for step in part("postprocessing").transforms)
        and isinstance(part("postprocessing").transforms[-1], SaveImaged)
    )


def stacks(slices: int, *, window: int, batch: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield where stacks begin and end.

    Args:
        slices: of the volume. window: slices that the network sees at once. batch: windows at once.
        most: slices that a stack may have; the smallest has ``window * batch``, the last one up to that more.
    """
    size = max(1, most // (window * batch)) * window * batch
    start = 0
    while start < slices:
        stop = start + size
        if slices - stop < window:  # the last window reaches back to here
            stop = slices
        yield start, stop
        start = stop


def predict_in_parts(
    model: OpenModel, image: Path, scratch: Path, wanted: Wanted, progress: Callable[[int, int], None]
) -> Facts:
    """Write what is predicted of a volume; as `serving.predict.Predictor`.

    Raises:
        SiteDataError: the file is unreadable, unfit or of one value only, or the model's answer is not finite.
        OSError: the scratch folder is full.
    """
    part = model.config.get_parsed_content
    volume = StoredVolume.open(image, scratch)
    window, batch = int(part("slices")), int(part("inferer").sw_batch_size)
    first = volume.part(0, 1)
    classes = len(model.labels)
    side = max(int(np.prod(first.extent)), int(part("image_size")) ** 2)
    most = max(1, _VALUES // (side * max(classes, first.channels)))
    spans: list[float] = []

    def values() -> Iterator[NDArray[np.float32]]:
        for piece in volume.parts(most):
            spans.extend((float(piece.min()), float(piece.max())))
            yield piece

    _loader, *others = part("preprocessing").transforms
    scale = next(step for step in others if isinstance(step, ScalePercentilesd))
    low, high = exact_percentiles(values, (scale.lower, scale.upper))
    refuse_one_value(min(spans), max(spans), image)
    facts = Facts(channels=first.channels, lower=low, upper=high, voxel_mm=tuple(sorted(first.spacing_mm or ())))
    if not high > low:
        low, high = min(spans), max(spans)
    others = [step.knowing(low, high) if step is scale else step for step in others]
    *after, saver = part("postprocessing").transforms
    saver = saver.saver
    shape = volume.stored.shape[:3]
    mask = _on_disk(scratch / "mask", shape, np.uint8)
    chances = [_on_disk(scratch / f"chance_{k}", shape, np.float32) for k in range(1, classes) if wanted.probabilities]
    meta: dict[str, Any] = {}
    for start, stop in stacks(volume.slices, window=window, batch=batch, most=most):
        piece = volume.part(start, stop)
        reader: Any = _PartReader(piece)
        data = LoadImaged(keys="image", reader=reader, image_only=True)({"image": str(image)})
        data = Compose(others)(data)
        logits = answered(model.network, data["image"].as_subclass(Tensor)[None], part)
        require_numbers(logits, image)
        result: dict[str, Any] = {"image": data["image"], "pred": logits[0]}
        for step in after:
            if isinstance(step, AsDiscreted):
                for k, chance in enumerate(chances, start=1):
                    chance[volume.place(start, stop)] = result["pred"][k].numpy()
            result = Compose([quick(step)])(result)
        mask[volume.place(start, stop)] = result["pred"][0].numpy()
        meta = dict(data["image"].meta)
        for written in (mask, *chances):
            forget(written)
        progress(stop, volume.slices)
    if wanted.largest_component:
        keep_largest(mask)
    write_volume(mask, volume.affine, Path(saver.folder_layout.filename(**saver.fname_formatter(meta, saver))))
    for k, chance in enumerate(chances, start=1):
        write_volume(chance, volume.affine, probability_file(model, part("names").case(meta), k))
    return facts


def _on_disk(file: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    with file.open("wb") as stream:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if hasattr(os, "posix_fallocate"):  # a disk that is full ends a process that writes to a map, without a word
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)
    return np.memmap(file, dtype, mode="r+", shape=shape, order="F")
