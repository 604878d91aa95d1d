"""A drawn image that goes with an exported bundle, and what its model makes of it: does it still give the same there?

No patient is behind the image. It lies between the intensities and has the voxel size of what the site trained on.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sitelora.data.endings import PICTURES, VOLUMES
from sitelora.data.nifti import write_nifti
from sitelora.data.reading import read_pixels
from sitelora.model_export.model_of_run import ExportError
from sitelora.serving.many_images import TABLE, predict_many
from sitelora.serving.open_model import OpenModel
from sitelora.serving.outputs import Wanted

IMAGE = "image"
_SIDE, _SLICES = 96, 7
_PLACE = "image"
"""Key of an answer under which its image's file stands."""


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
    kept = []
    for file in case.files:
        if file.suffix == TABLE:
            file.unlink()  # one row of what stands in the case's own file
            continue
        if file.suffix == ".json":
            told = json.loads(file.read_bytes())
            file.write_text(json.dumps({**told, _PLACE: image.name}, indent=2) + "\n", encoding="utf-8")
        kept.append(file)
    return kept


def differing(one: Path, other: Path) -> int:
    """Return how many voxels of two predictions differ; of answers, 1 where they do; where the image lay counts not."""
    if one.name.endswith(VOLUMES + PICTURES):
        first, second = (read_pixels(file).values for file in (one, other))
    else:
        told = [json.loads(file.read_bytes()) | {_PLACE: ""} for file in (one, other)]
        return int(told[0] != told[1])
    return int(first.size) if first.shape != second.shape else int((first != second).sum())


def _discs(slices: int) -> NDArray[np.float64]:
    """Return a bright disc in a grey one on a dark ground, from 0 to 1, ``[X, Y, slices]``."""
    across = np.linspace(-1, 1, _SIDE)
    radius = np.hypot(across[:, None], 1.2 * across[None])[..., None]
    along = np.linspace(-1, 1, slices)[None, None] if slices > 1 else np.zeros((1, 1, 1))
    inner, outer = 0.45 - 0.2 * along**2, 0.9 - 0.1 * along**2
    return 0.1 + 0.4 * (radius < outer) + 0.4 * (radius < inner) + 0.05 * np.cos(9 * radius)
