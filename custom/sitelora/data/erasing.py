"""Random erasing of FLAP-SAM's augmentation (arXiv 2407.21739; Zhong et al., arXiv 1708.04896): noise, and no label."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_data_type, convert_to_dst_type
from torch import Tensor

_TRIES = 100


class RandErased(RandomizableTransform, MapTransform):
    """Replace one random rectangle by noise, the same in all slices, and make its label background.

    MONAI's RandCoarseDropoutd draws the sides of its box apart from each other, and fills image and label alike.

    Args:
        keys: of images with values in 0..1, ``[c, H, W]`` or ``[c, H, W, N]``, all of one height and width.
        label_keys: of label maps on the same grid, set to 0 in the rectangle.
        area: range of the rectangle's share of the picture. aspect: range of its width by its height.
        prob: of acting on a sample. allow_missing_keys: as in MONAI, for images.

    Raises:
        ValueError: a range that is not two positive numbers in order, or an area above 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: tuple[str, ...] = ("label",),
        area: tuple[float, float] = (0.02, 0.05),
        aspect: tuple[float, float] = (0.3, 3.3),
        prob: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not 0 < area[0] <= area[1] <= 1 or not 0 < aspect[0] <= aspect[1]:
            raise ValueError(
                f"RandErased: found area={area}, aspect={aspect}; expected two positive numbers each, the smaller one "
                "first, and no area above 1"
            )
        self.label_keys, self.area, self.aspect = label_keys, area, aspect
        self._box = (slice(0), slice(0))
        self._noise = np.zeros((0, 0), np.float32)

    def randomize(self, data: tuple[int, int]) -> None:
        """Draw whether to act, the rectangle within ``data`` = (H, W), and its noise."""
        super().randomize(None)
        if not self._do_transform:
            return
        height, width = data
        for _ in range(_TRIES):
            pixels, ratio = self.R.uniform(*self.area) * height * width, self.R.uniform(*self.aspect)
            columns, rows = int(math.sqrt(pixels * ratio)), int(math.sqrt(pixels / ratio))
            if columns <= width and rows <= height:
                break
        else:
            raise ValueError(
                f"RandErased: no rectangle of area={self.area} and aspect={self.aspect} fits into {height} x {width} "
                "pixels; choose a smaller area or aspects nearer to 1"
            )
        top, left = int(self.R.randint(height - rows + 1)), int(self.R.randint(width - columns + 1))
        self._box = (slice(top, top + rows), slice(left, left + columns))
        self._noise = self.R.uniform(size=(rows, columns)).astype(np.float32)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Return the sample with the rectangle erased or not; type, shape and metadata stay."""
        result = dict(data)
        first = self.first_key(result)
        if first == ():
            return result
        height, width = result[first].shape[1:3]
        self.randomize((int(height), int(width)))
        if not self._do_transform:
            return result
        for key in self.key_iterator(result):
            image = convert_data_type(result[key], Tensor)[0].clone()
            noise = torch.from_numpy(self._noise).to(image.dtype)
            image[(slice(None), *self._box)] = noise if image.ndim == 3 else noise[..., None]
            result[key] = convert_to_dst_type(image, result[key])[0]
        for name in self.label_keys:
            label = convert_data_type(result[name], Tensor)[0].clone()
            label[(slice(None), *self._box)] = 0
            result[name] = convert_to_dst_type(label, result[name])[0]
        return result
