"""What a network says of prepared images, by a bundle's own inferer: for scoring and for serving alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Pipeline = Callable[[str], Any]
"""Gives the parts of a bundle's inference config by id: "preprocessing", "inferer", "postprocessing"."""


def answered(network: nn.Module, pixels: Tensor, pipeline: Pipeline) -> Tensor:
    """Return what a network says of a batch of images, on the CPU; it is left in evaluation mode.

    Args:
        network: in any mode.
        pixels: ``[B, C, ...]``, a plain tensor, because metadata has no business on another device.
        pipeline: the bundle's inference parts.
    """
    network.eval()
    with torch.no_grad():
        logits: Tensor = pipeline("inferer")(pixels.to(next(network.parameters()).device), network).cpu()
    return logits
