"""A drawn image that goes with an exported bundle, and what its model makes of it: does it still give the same there?

No patient is behind the image. It lies between the intensities and has the voxel size of what the site trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.nifti import write_nifti
from sitelora.data.reading import read_pixels
from sitelora.model_export.model_of_run import ExportError
from sitelora.serving.many_images import predict_many
from sitelora.serving.open_model import OpenModel
from sitelora.serving.outputs import Wanted

FOLDER, IMAGE = "golden", "image"
_SIDE, _SLICES = 96, 7


def draw_golden(model: OpenModel, folder: Path) -> Path:
    """Write the drawn image of a model and return its file.

    Args:
        model: opened; of its ranges nothing but the middle of each is used. folder: where it goes.
    """
    ranges = model.trained_on
    low, high = (ranges.lower[0], ranges.upper[1]) if ranges is not None else (0.0, 255.0)
    channels = max(ranges.channels) if ranges is not None else 1
    values = low + (high - low) * _discs(1 if model.pictures else _SLICES)
    values = np.repeat(values[..., None], channels, axis=-1) if channels > 1 else values
    folder.mkdir(parents=True, exist_ok=True)
    if model.pictures:
        file = folder / f"{IMAGE}.png"
        Image.fromarray(np.clip(values[:, :, 0], 0, 255).astype(np.uint8)).save(file)
        return file
    file = folder / f"{IMAGE}.nii.gz"
    sides = [float(np.mean(side)) for side in ranges.voxel_mm] if ranges is not None else [1.0, 1.0, 3.0]
    write_nifti(file, values.astype(np.float32), np.diag([-sides[0], -sides[1], sides[2], 1.0]))
    return file


def keep_golden(model: Path, opened: OpenModel, folder: Path) -> list[Path]:
    """Write the drawn image and what the model predicts of it; return the predictions.

    Args:
        model: its file. opened: the same. folder: where they go.

    Raises:
        ExportError: the model cannot predict it.
    """
    image = draw_golden(opened, folder)
    (case,) = predict_many(model, [image], out=folder, wanted=Wanted(), device="cpu")
    if case.refused:
        raise ExportError(f"the drawn case is refused: {case.refused}")
    return list(case.files)


def differing(one: Path, other: Path) -> int:
    """Return how many voxels of two predictions differ; of files that are no images, 1 where their bytes do."""
    if one.name.endswith(VOLUMES + PICTURES):
        first, second = (read_pixels(file).values for file in (one, other))
    else:
        return int(one.read_bytes() != other.read_bytes())
    return int(first.size) if first.shape != second.shape else int((first != second).sum())


def _discs(slices: int) -> NDArray[np.float64]:
    """Return a bright disc in a grey one on a dark ground, from 0 to 1, ``[X, Y, slices]``."""
    across = np.linspace(-1, 1, _SIDE)
    radius = np.hypot(across[:, None], 1.2 * across[None])[..., None]
    along = np.linspace(-1, 1, slices)[None, None] if slices > 1 else np.zeros((1, 1, 1))
    inner, outer = 0.45 - 0.2 * along**2, 0.9 - 0.1 * along**2
    return 0.1 + 0.4 * (radius < outer) + 0.4 * (radius < inner) + 0.05 * np.cos(9 * radius)
