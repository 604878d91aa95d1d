"""What can be written beside a mask, or done to it, where it is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.serving.bundle_parts import MaskNames, PictureWriter, VolumeWriter
from sitelora.serving.open_model import OpenModel


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a call asks for.

    Attributes:
        probabilities: a file of every label's probability, 0 to 1 (0 to 255 of a picture).
        largest_component: of every label in the mask its largest connected piece alone.
    """

    probabilities: bool = False
    largest_component: bool = False

    @property
    def of_masks(self) -> bool:
        """Whether something is asked for that only a mask has."""
        return self.probabilities or self.largest_component


def probability_file(model: OpenModel, case: str, value: int) -> Path:
    """Return where the probability of a label goes.

    Args:
        model: opened. case: its name. value: of the label.
    """
    label = re.sub(r"\W+", "-", model.labels.get(value, str(value))).strip("-") or str(value)
    ending = PICTURES[0] if model.pictures else VOLUMES[0]
    return Path(model.config["output_dir"]) / f"{case}_probability_{value}_{label}{ending}"


def write_probabilities(predicted: Any, model: OpenModel, names: MaskNames) -> None:
    """Write what a network gives for every label, in the image's own grid.

    Args:
        predicted: ``[C, X, Y, Z]`` or ``[C, W, H]``, background first; a MetaTensor with the image's metadata.
        model: opened. names: of the call.
    """
    case = names.case(predicted.meta)
    for value in range(1, len(predicted)):
        values, file = predicted[value].numpy(), probability_file(model, case, value)
        if model.pictures:
            write_picture(np.rint(values * 255).astype(np.uint8), file)
        else:
            write_volume(values, predicted.affine.numpy(), file)


def write_volume(values: NDArray[Any], affine: NDArray[np.float64], file: Path) -> None:
    """Write a volume as MONAI would, without a copy of it: it may be a memory map.

    Args:
        values: ``[X, Y, Z]``. affine: ``[4, 4]`` voxel index to RAS+ mm. file: to write.
    """
    writer: Any = VolumeWriter(output_dtype=values.dtype)
    writer.data_obj, writer.affine = values, affine
    writer.write(file)


def write_picture(values: NDArray[np.uint8], file: Path) -> None:
    """Write a picture as MONAI would.

    Args:
        values: ``[W, H]``, as MONAI reads pictures. file: to write.
    """
    writer: Any = PictureWriter(output_dtype=np.uint8, scale=None)
    writer.set_data_array(values[None], channel_dim=0)
    writer.set_metadata({}, resample=False)
    writer.write(file)


def keep_largest(labels: NDArray[Any]) -> None:
    """Keep the largest connected piece of every label, in place; pieces touch by their corners too.

    Args:
        labels: ``[X, Y, Z]`` or ``[W, H]`` of whole numbers; six bytes a voxel more are in memory.
    """
    for value in np.unique(labels):
        if value == 0:
            continue
        (where,) = ndimage.find_objects((labels == value).astype(np.uint8))
        box = labels[where]
        pieces, count = ndimage.label(box == value, structure=np.ones((3,) * labels.ndim))
        if count > 1:
            largest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
            box[(pieces > 0) & (pieces != largest)] = 0
