"""The one rule of intensities: the 1st to the 99th percentile of an image become 0 to 1, whatever the image is.

MONAI's ``ScaleIntensityRangePercentilesd`` returns an image unscaled where both percentiles are equal: zeros with one
small bright block reach the network as 3000. Our choice: then the range is the image's lowest to its highest value; an
image of one value becomes 0 throughout, and a line in the log says so. Everywhere else the values are MONAI's bits.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, ScaleIntensityRange
from monai.utils import convert_to_dst_type, convert_to_tensor

from sitelora.data.errors import SiteDataError

LOWER, UPPER = 1.0, 99.0
logger = logging.getLogger(__name__)


MANY = 1_000_000
"""Number of values above which MONAI asks NumPy for percentiles and not torch, which rounds otherwise."""


def percentiles(image: torch.Tensor, lower: float, upper: float) -> tuple[float, float]:
    """Return two percentiles of all values of an fp32 image: MONAI's bits, from one partition in place of two sorts."""
    values = image.reshape(-1).numpy()
    if values.size > MANY:
        low, high = np.percentile(values, np.array([lower, upper])).astype(np.float32).tolist()
        return low, high
    if bool(np.isnan(values.max())):
        return float("nan"), float("nan")
    places = (torch.tensor([lower, upper], dtype=torch.float64) / 100).float() * (values.size - 1)
    below, above = places.floor().long(), places.ceil().long()
    ordered = torch.from_numpy(np.partition(values, sorted({*below.tolist(), *above.tolist()})))
    low, high = torch.lerp(ordered[below], ordered[above], places - below).tolist()
    return low, high


class ScalePercentilesd(MapTransform):
    """Scale images to 0..1 by percentiles, clipped; all channels together.

    Args:
        keys: of images of any shape. lower, upper: percentiles that become 0 and 1.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self, keys: KeysCollection, lower: float = LOWER, upper: float = UPPER, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 <= lower < upper <= 100:
            raise ValueError(
                f"ScalePercentilesd: found lower={lower}, upper={upper}; expected 0 <= lower < upper <= 100"
            )
        self.lower, self.upper = lower, upper
        self._known: tuple[float, float] | None = None

    def knowing(self, low: float, high: float) -> ScalePercentilesd:
        """Return the same transform for parts of an image of which it is known what becomes 0 and 1.

        Args:
            low, high: of the whole image, ``high`` the larger one.
        """
        other = ScalePercentilesd(self.keys, self.lower, self.upper, self.allow_missing_keys)
        other._known = (low, high)
        return other

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Return the sample with scaled images; type, shape and metadata stay."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = convert_to_tensor(result[key], track_meta=True)
            plain = convert_to_tensor(image, dtype=torch.float32, track_meta=False)
            low, high = self._range(plain)
            name = image.meta.get("filename_or_obj", key) if isinstance(image, MetaTensor) else key
            if high > low:
                scaled = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)(plain)
            else:
                logger.warning("%s: the same value %g everywhere, so the network sees an empty image", name, low)
                scaled = torch.zeros_like(plain, dtype=torch.float32)
            if not bool(torch.isfinite(convert_to_tensor(scaled)).all()):
                raise SiteDataError(
                    f"{name}: not finite once {low:g} to {high:g} is scaled to 0..1; export the image again"
                )
            result[key] = convert_to_dst_type(
                convert_to_tensor(scaled, track_meta=False), dst=image, dtype=torch.float32
            )[0]
        return result

    def _range(self, plain: torch.Tensor) -> tuple[float, float]:
        """Return what becomes 0 and 1; equal where the image has one value."""
        if self._known is not None:
            return self._known
        low, high = percentiles(plain, self.lower, self.upper)
        return (low, high) if high > low else (float(plain.min()), float(plain.max()))
