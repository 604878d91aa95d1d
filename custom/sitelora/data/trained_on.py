"""Between which numbers the images lie that a model was trained on, so that serving can tell what is far outside.

Ranges over all training cases and nothing of a single one, three figures each. They stand in the model's file, which
stays at the site (docs/privacy.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms.utils_pytorch_numpy_unification import percentile
from numpy.typing import NDArray

from sitelora.data.intensity import LOWER, UPPER
from sitelora.data.reading import Pixels
from sitelora.data.rules import CHANNELS, read_image

FAR_INTENSITIES = 1.0
"""An image's range that leaves the trained one by more than this share of its width is far outside (our choice)."""
NARROW = 0.05
"""So is one that is narrower than this share of the narrowest trained on."""
FAR_SIZES = 2.0
"""A voxel's side that is this many times larger or smaller than any trained on is far outside (our choice)."""
_FIGURES = 3

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is compared of one image.

    Attributes:
        channels: how many values a voxel has. lower, upper: the percentiles that intensities are scaled by.
        voxel_mm: sides of a voxel, the smallest first, whatever the axes; empty of a picture.
    """

    channels: int
    lower: float
    upper: float
    voxel_mm: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: NDArray[np.float32], *, channels: int, spacing_mm: Sequence[float] | None) -> Facts:
        """Return the facts of an image that is in memory."""
        flat = torch.from_numpy(np.ascontiguousarray(values).reshape(-1))
        lower, upper = (float(percentile(flat, percent)) for percent in (LOWER, UPPER))
        return cls(channels=channels, lower=lower, upper=upper, voxel_mm=tuple(sorted(spacing_mm or ())))


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """Ranges over the training cases, each the lowest and the highest; the fields are those of `Facts`.

    Attributes:
        narrowest: smallest distance between an image's two percentiles.
    """

    channels: tuple[int, ...]
    lower: Range
    upper: Range
    narrowest: float
    voxel_mm: tuple[Range, ...] = ()

    @classmethod
    def over(cls, images: Iterable[Facts]) -> TrainedOn | None:
        """Return the ranges over images; None where there is no image."""
        seen = list(images)
        if not seen:
            return None
        sides = zip(*(each.voxel_mm for each in seen), strict=True)
        return cls(
            channels=tuple(sorted({each.channels for each in seen})),
            lower=_range([each.lower for each in seen]),
            upper=_range([each.upper for each in seen]),
            narrowest=_rounded(min(each.upper - each.lower for each in seen)),
            voxel_mm=tuple(_range(side) for side in sides),
        )

    @classmethod
    def from_plain(cls, told: object) -> TrainedOn:
        """Read what ``to_plain`` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            if not isinstance(told, Mapping):
                raise TypeError
            return cls(
                channels=tuple(int(number) for number in told["channels"]),
                lower=_pair(told["lower"]),
                upper=_pair(told["upper"]),
                narrowest=float(told["narrowest"]),
                voxel_mm=tuple(_pair(side) for side in told["voxel_mm"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{told!r:.60} are no ranges of images") from error

    def to_plain(self) -> dict[str, Any]:
        """Return plain values, for a model's file."""
        return {
            "channels": list(self.channels),
            "lower": list(self.lower),
            "upper": list(self.upper),
            "narrowest": self.narrowest,
            "voxel_mm": [list(side) for side in self.voxel_mm],
        }

    def unlike(self, image: Facts) -> list[str]:
        """Return in what an image is far outside of what was trained on; a few words each."""
        found = []
        if image.channels not in self.channels:
            trained = " or ".join(map(str, self.channels))
            found.append(f"{image.channels} channel(s), trained on {trained}")
        low, high = self.lower[0], self.upper[1]
        room, width = FAR_INTENSITIES * (high - low), image.upper - image.lower
        if image.lower < low - room or image.upper > high + room or width < NARROW * self.narrowest:
            found.append(
                f"intensities from {image.lower:.4g} to {image.upper:.4g} (percentiles {LOWER:g} and {UPPER:g}), "
                f"trained on {low:g} to {high:g}"
            )
        for side, (least, most) in zip(image.voxel_mm, self.voxel_mm, strict=False):
            if not least / FAR_SIZES <= side <= most * FAR_SIZES:
                sizes = " x ".join(f"{one:.3g}" for one in image.voxel_mm)
                trained = " x ".join(f"{a:g}" if a == b else f"{a:g}-{b:g}" for a, b in self.voxel_mm)
                found.append(f"voxels of {sizes} mm, trained on {trained} mm")
                break
        return found


def ranges_of(images: Iterable[Path], channels: Collection[int] = CHANNELS) -> TrainedOn | None:
    """Return the ranges over image files, whose voxels may have so many values; None where there is no file.

    Raises:
        SiteDataError: a file is unreadable or unfit.
    """
    return TrainedOn.over(_facts(read_image(image, channels)) for image in images)


def _facts(pixels: Pixels) -> Facts:
    return Facts.of(pixels.values, channels=pixels.channels, spacing_mm=pixels.spacing_mm)


def _range(values: Iterable[float]) -> Range:
    seen = list(values)
    return _rounded(min(seen)), _rounded(max(seen))


def _rounded(value: float) -> float:
    return float(f"{value:.{_FIGURES}g}")


def _pair(told: Any) -> Range:
    low, high = (float(value) for value in told)
    return low, high
