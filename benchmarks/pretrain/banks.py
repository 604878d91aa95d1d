"""What the classifying transformers are pre-trained on: a bank of drawings, drawn once and kept beside the run.

Drawn hearts have seeds of their own: none is a patient of the cine phantom. No group is told to the network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from batches import image_batch
from canvas import Textures
from drawings import draw
from torch import Tensor

from sitelora.data.intensity import LOWER, UPPER
from sitelora.data.phantom.arithmetic import Draws
from sitelora.data.phantom.heart import GROUPS, Heart
from sitelora.data.phantom.heart_make import draw_heart
from sitelora.data.phantom.heart_vendors import any_vendor
from sitelora.seeding import derive_seed

MATRIX, SLICES, PICTURE_PX = 96, 8, 128
PIXEL_MM, SLICE_MM = 1.8, 10.0


def ready(volume: np.ndarray, spacing: tuple[float, float]) -> Tensor:
    """Return ``[2, 96, 96, 8]`` in [0, 1] as a cine bundle prepares it.

    Args:
        volume: ``[X, Y, Z, 2]``. spacing: of its pixels and of its slices, in mm.
    """
    low, high = np.percentile(volume, (LOWER, UPPER))
    scaled = torch.from_numpy(np.clip((volume - low) / (high - low), 0, 1)).float().permute(3, 0, 1, 2)
    size = [round(length * now / wanted) for length, now, wanted in
            zip(scaled.shape[1:], (spacing[0], *spacing), (PIXEL_MM, PIXEL_MM, SLICE_MM), strict=True)]  # fmt: skip
    scaled = F.interpolate(scaled[None], size=size, mode="trilinear", align_corners=False)[0]
    lack = [wanted - length for wanted, length in zip((MATRIX, MATRIX, SLICES), scaled.shape[1:], strict=True)]
    return F.pad(scaled, [side for each in reversed(lack) for side in (each // 2, each - each // 2)])


def heart(seed: int, index: int) -> np.ndarray:
    """Return a drawn heart ``[2, 96, 96, 8]`` uint8 as a cine bundle prepares it: any group, any scanner."""
    rng = Draws(derive_seed("cine pre-training", seed, index))
    vendor = any_vendor(rng)
    volume, _ = draw_heart(Heart.draw(rng, GROUPS[index % len(GROUPS)]), vendor, rng)
    return (255 * ready(volume, (vendor.spacing_mm, vendor.slice_mm))).round().byte().numpy()


def bank(kind: str, seed: int, size: int, folder: Path) -> np.ndarray:
    """Return ``size`` drawings of a kind, uint8, channels first; those that the folder has are not drawn again."""
    path = folder / f"{kind}_{seed}_{size}.npy"
    if not path.is_file():
        if kind == "hearts":
            made = np.stack([heart(seed, index) for index in range(size)])
        else:
            textures, rng = Textures(seed), np.random.default_rng([seed, 4])
            pictures = [image_batch([draw(seed, index, textures)], rng)[0] for index in range(size)]
            made = (torch.stack(pictures) * 255).round().byte().numpy()
        np.save(path.with_suffix(".tmp.npy"), made)
        path.with_suffix(".tmp.npy").replace(path)
    return np.load(path, mmap_mode="r")


def batch(drawn: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return fp32 images in [0, 1]: one in four turned or mirrored in the plane, all with a gamma."""
    images = []
    for row in rows:
        image = torch.from_numpy(np.array(drawn[row])).float() / 255
        if rng.random() < 0.25:
            image = image.rot90(int(rng.integers(4)), (1, 2))
            image = image.flip(1) if rng.random() < 0.5 else image
        images.append(image ** float(np.exp(rng.normal(0, 0.2))))
    return torch.stack(images)
