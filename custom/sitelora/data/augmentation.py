"""Posterize and sharpness of FLAP-SAM's augmentation (arXiv 2407.21739; MA-SAM's in its code), which MONAI lacks.

Both are of MONAI's dictionary kind, with one draw for the whole sample: a stack ``[c, H, W, N]`` or a picture
``[c, H, W]``, values in 0..1. What each computes is Pillow's, on grey levels 0..1: our choice, as the paper is silent.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_data_type, convert_to_dst_type
from torch import Tensor
from torch.nn import functional

LEVELS = 255
"""Grey levels above zero that a posterized picture has at 8 bits."""

Sample = Mapping[Hashable, NdarrayOrTensor]


def posterized(image: Tensor, bits: int) -> Tensor:
    """Keep the highest ``bits`` of the 8-bit grey levels of ``image``, any shape, values in 0..1."""
    step = 2 ** (8 - bits)
    levels = (image.clamp(0, 1) * LEVELS).round()
    return (levels / step).floor() * step / LEVELS


def sharpened(image: Tensor, factor: float) -> Tensor:
    """Mix ``image [c, H, W]`` or ``[c, H, W, N]`` with its smoothed self, slice by slice.

    Factor 0 gives the smoothed image (3 x 3, the centre five times as heavy, the border kept, as Pillow's), 1 the image
    itself, more than 1 a sharper one; the result is clipped to 0..1.
    """
    folded = image.movedim((1, 2), (-2, -1))
    slices = folded.reshape(-1, 1, *folded.shape[-2:])
    kernel = torch.ones(1, 1, 3, 3, dtype=image.dtype)
    kernel[..., 1, 1] = 5
    smooth = slices.clone()
    smooth[..., 1:-1, 1:-1] = functional.conv2d(slices, kernel / kernel.sum())
    mixed = (smooth + factor * (slices - smooth)).clamp(0, 1)
    return mixed.reshape(folded.shape).movedim((-2, -1), (1, 2))


class _RandomIntensity(RandomizableTransform, MapTransform):
    """One number drawn from a range, used on every named image."""

    def __init__(self, keys: KeysCollection, prob: float, allow_missing_keys: bool) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self._value: float = 0

    @abstractmethod
    def draw(self) -> float:
        """Return the number of one sample."""

    @abstractmethod
    def apply(self, image: Tensor, value: float) -> Tensor:
        """Return the changed image."""

    def randomize(self, data: Any | None = None) -> None:
        """Draw whether to act, and the number."""
        super().randomize(None)
        if self._do_transform:
            self._value = self.draw()

    def __call__(self, data: Sample) -> dict[Hashable, NdarrayOrTensor]:
        """Return the sample with its images changed or not; type, shape and metadata stay."""
        result = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(result):
                image = convert_data_type(result[key], Tensor)[0]
                changed = self.apply(image.to(torch.float32), self._value)
                result[key] = convert_to_dst_type(changed, result[key])[0]
        return result


class RandPosterized(_RandomIntensity):
    """Reduce the grey levels of images to a random number of bits.

    Args:
        keys: of images with values in 0..1.
        bits: fewest and most of the 8 bits that are kept.
        prob: of acting on a sample. allow_missing_keys: as in MONAI.

    Raises:
        ValueError: numbers of bits that are not 1 to 8 in order.
    """

    def __init__(
        self,
        keys: KeysCollection,
        bits: tuple[int, int] = (4, 8),
        prob: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        if len(bits) != 2 or not 1 <= bits[0] <= bits[1] <= 8:
            raise ValueError(f"RandPosterized: found bits={bits}; expected two of 1 to 8, the smaller one first")
        self.bits = bits

    def draw(self) -> float:
        """Return a number of bits; both ends of the range are possible."""
        return int(self.R.randint(self.bits[0], self.bits[1] + 1))

    def apply(self, image: Tensor, value: float) -> Tensor:
        """Return the posterized image."""
        return posterized(image, int(value))


class RandSharpnessd(_RandomIntensity):
    """Smooth or sharpen images by a random factor, within their slices.

    Args:
        keys: of images with values in 0..1, ``[c, H, W]`` or ``[c, H, W, N]``.
        factors: range; 1 changes nothing.
        prob: of acting on a sample. allow_missing_keys: as in MONAI.

    Raises:
        ValueError: a range that is not two numbers of at least 0 in order.
    """

    def __init__(
        self,
        keys: KeysCollection,
        factors: tuple[float, float] = (0.1, 1.9),
        prob: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, prob, allow_missing_keys)
        if len(factors) != 2 or not 0 <= factors[0] <= factors[1]:
            raise ValueError(f"RandSharpnessd: found factors={factors}; expected two from 0 on, the smaller one first")
        self.factors = factors

    def draw(self) -> float:
        """Return a factor."""
        return float(self.R.uniform(*self.factors))

    def apply(self, image: Tensor, value: float) -> Tensor:
        """Return the smoothed or sharpened image."""
        return sharpened(image, value)
