"""From drawings to a training batch: the imaging (blur, noise, scaling, gamma) and the prompts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from canvas import SIDE_PX
from drawings import Drawing
from torch import Tensor


def image_batch(drawings: list[Drawing], rng: np.random.Generator) -> Tensor:
    """Return ``[B, 3, 128, 128]`` in [0, 1]: blurred, noisy, scaled by percentiles, with a gamma."""
    images = torch.from_numpy(np.stack([d.image for d in drawings]))
    batch = len(images)
    sigma = torch.from_numpy(rng.uniform(0.2, 1.3, batch).astype(np.float32))[:, None]
    kernel = torch.exp(-(torch.arange(-3.0, 4.0)[None] ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    flat = F.pad(images.reshape(1, -1, SIDE_PX, SIDE_PX), (3, 3, 3, 3), mode="replicate")
    flat = F.conv2d(flat, kernel[:, :, None, :], groups=3 * batch)
    images = F.conv2d(flat, kernel[:, :, :, None], groups=3 * batch).reshape(images.shape)
    amount = torch.from_numpy((rng.uniform(0, 0.09, batch) * (rng.random(batch) < 0.8)).astype(np.float32))
    spread = images.flatten(1).std(1)
    noise = torch.from_numpy(rng.standard_normal((batch, 3 if rng.random() < 0.2 else 1, SIDE_PX, SIDE_PX), np.float32))
    images = images + noise * (amount * spread * 3)[:, None, None, None]
    ranks = torch.sort(images.flatten(1)[:, ::7], dim=1).values
    low, high = ranks[:, int(0.01 * ranks.shape[1])], ranks[:, int(0.99 * ranks.shape[1])]
    images = (images - low[:, None, None, None]) / (high - low + 1e-3)[:, None, None, None]
    gamma = torch.from_numpy(np.exp(rng.normal(0, 0.25, batch)).astype(np.float32))[:, None, None, None]
    return images.clamp(0, 1) ** gamma


def prompts(drawings: list[Drawing], rng: np.random.Generator) -> tuple[list[int], dict[str, object], Tensor]:
    """Choose one thing of each picture that has any, and point at it: one point, a few, or a loose box."""
    rows, masks = [], []
    for row, drawing in enumerate(drawings):
        if len(drawing.objects):
            rows.append(row)
            masks.append(drawing.objects[rng.integers(len(drawing.objects))])
    target = np.stack(masks)
    style = rng.choice(["point", "points", "box"], p=[0.45, 0.25, 0.3])
    if style == "box":
        boxes = []
        for mask in target:
            ys, xs = np.nonzero(mask)
            box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
            boxes.append(box + rng.normal(0, 0.04, 4) * np.tile(box[2:] - box[:2], 2))
        given: dict[str, object] = {"boxes": torch.from_numpy(np.stack(boxes).astype(np.float32))}
    else:
        inside, outside = (1, 0) if style == "point" else (2, 1)
        coordinates = []
        for mask in target:
            ys, xs = np.nonzero(mask)
            picked = rng.integers(len(ys), size=inside)
            off_ys, off_xs = np.nonzero(~mask)
            if outside and len(off_ys):
                other = rng.integers(len(off_ys), size=outside)
                xs_all, ys_all = np.r_[xs[picked], off_xs[other]], np.r_[ys[picked], off_ys[other]]
            else:
                picked = np.r_[picked, picked[:1].repeat(outside)]
                xs_all, ys_all = xs[picked], ys[picked]
            coordinates.append(np.stack([xs_all, ys_all], -1))
        points = torch.from_numpy(np.stack(coordinates).astype(np.float32))
        labels = torch.tensor([1.0] * inside + [0.0] * outside).expand(len(points), -1)
        given = {"points": (points, labels)}
    return rows, given, torch.from_numpy(target)
