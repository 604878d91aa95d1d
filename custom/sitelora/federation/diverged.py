"""Where to look when a loss is no number: at what came, where that is absurd, before the images and the rate."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

NOTHING_TRAINED = 1e6
"""No training that ends well leaves a value of this size (our choice)."""


def at_fault(began_with: Mapping[str, Tensor]) -> str:
    """Return what to look at.

    Args:
        began_with: values before the round's first step, by name; empty after it, when they are the site's own work.
    """
    sizes = {name: float(value.detach().abs().max()) for name, value in began_with.items() if value.numel()}
    name = max(sizes, key=sizes.__getitem__, default="")
    if name and sizes[name] > NOTHING_TRAINED:
        return (
            f"{name} began this round with values up to {sizes[name]:.1e}, which no training leaves: look at what the "
            "other sites sent, or go back to a round before"
        )
    return "look for images that `sitelora check` warns about, or lower the bundle's learning_rate"
