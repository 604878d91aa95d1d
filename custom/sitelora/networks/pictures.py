"""How a segmenting network takes images and answers: pictures, or stacks folded slice by slice into a batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def as_pictures(image: Tensor, side: int) -> Tensor:
    """Return the slices of images as pictures in colour, ``[B * N, 3, H, W]`` in fp32.

    Args:
        image: ``[B, c, H, W]``, or ``[B, c, H, W, N]``; c is 1 (repeated to 3) or 3. side: H = W.

    Raises:
        ValueError: another shape.
    """
    if image.ndim not in (4, 5) or image.shape[1] not in (1, 3) or tuple(image.shape[2:4]) != (side, side):
        raise ValueError(
            f"found an input of shape {tuple(image.shape)}, expected [B, 1 or 3, {side}, {side}] or "
            f"[B, 1 or 3, {side}, {side}, N]: resize or crop to image_size={side}, or build the "
            "network at another"
        )
    pixels = image.as_subclass(Tensor).float()
    if pixels.ndim == 5:
        pixels = pixels.permute(0, 4, 1, 2, 3).flatten(0, 1)
    return pixels.expand(-1, 3, -1, -1)


def like_images(logits: Tensor, image: Any) -> Tensor:
    """Return logits of pictures ``[B * N, C, H, W]`` in the shape of the images that they are of.

    Args:
        image: as for `as_pictures`; a MONAI MetaTensor hands its metadata on.
    """
    if image.ndim == 5:
        logits = logits.unflatten(0, (image.shape[0], image.shape[4])).permute(0, 2, 3, 4, 1)
    if not hasattr(image, "copy_meta_from"):
        return logits
    result: Tensor = type(image)(logits).copy_meta_from(image)
    return result
