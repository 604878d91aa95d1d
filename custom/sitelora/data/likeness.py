"""Whether two images are one image, however they are stored: type, slope, byte order, order of axes, grey as colours.

A hash tells only equal bits, and int16 with a slope of 0.1 differs from the same numbers in float32 by their last bit.
So an image gets a few marks, sums of its values with random signs and weights (a random projection, Johnson and
Lindenstrauss 1984): what differs by rounding has the same marks, what differs by a voxel has others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.random import default_rng
from numpy.typing import NDArray

from sitelora.data.reading import Pixels

_BLOCK, _MARKS = 1 << 16, 4
_ROUNDING = 1e-6
"""Share of its own value by which a voxel may differ in the same image, and of the lowest (our choice): a slope in
single precision instead of double makes a tenth of it."""
_Name = TypeVar("_Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What is left of an image to compare it by.

    Attributes:
        shape: of the values. marks: lowest and highest value, then the sums. near: how far each may be apart.
    """

    shape: tuple[int, ...]
    marks: tuple[float, ...]
    near: tuple[float, ...]

    def like(self, other: Likeness) -> bool:
        """Say whether the two are one image."""
        pairs = zip(self.marks, other.marks, self.near, strict=True)
        return self.shape == other.shape and all(abs(one - two) <= near for one, two, near in pairs)


def likenesses(image: Pixels) -> tuple[Likeness, ...]:
    """Return an image's likeness; of a volume also that of its axes turned to the same directions in the body.

    Args:
        image: as ``read_image`` gives it, fp32.
    """
    values = image.values
    if values.ndim > len(image.extent) and (values == values[..., :1]).all():
        values = values[..., 0]
    views = [values]
    if image.affine is not None:
        views.append(apply_orientation(values, io_orientation(image.affine)))
    if len(views) == 2 and views[1].shape == values.shape and views[1].strides == values.strides:
        views.pop()  # they lie so already
    return tuple(_likeness(view) for view in views)


def same_images(found: Iterable[tuple[_Name, Likeness]]) -> list[list[_Name]]:
    """Return the groups of more than one name whose images are one image; a name may be there with several views."""
    by_shape: dict[tuple[int, ...], list[tuple[_Name, Likeness]]] = defaultdict(list)
    for name, likeness in found:
        by_shape[likeness.shape].append((name, likeness))
    group: dict[_Name, list[_Name]] = {}
    for several in by_shape.values():
        several.sort(key=lambda one: one[1].marks[-1])  # many images have one lowest value, few have one sum
        sums = np.array([likeness.marks[-1] for _, likeness in several])
        for place, (name, likeness) in enumerate(several):
            last = int(np.searchsorted(sums, sums[place] + likeness.near[-1], side="right"))
            for other, one in several[place + 1 : last]:
                if other != name and likeness.like(one):
                    mine, theirs = group.setdefault(name, [name]), group.setdefault(other, [other])
                    if mine is not theirs:
                        mine += theirs
                        group.update(dict.fromkeys(theirs, mine))
    return list({id(names): names for names in group.values()}.values())


def _likeness(values: NDArray[np.float32]) -> Likeness:
    low, high = float(values.min()), float(values.max())
    flat = (values - np.float32(low)).reshape(-1)
    whole = flat.size // _BLOCK
    sums = np.zeros((whole + 1, _MARKS))
    sums[:whole] = flat[: whole * _BLOCK].reshape(whole, _BLOCK) @ _weights()
    sums[whole] = flat[whole * _BLOCK :] @ _weights()[: flat.size - whole * _BLOCK]
    signs = default_rng(1).standard_normal((whole + 1, _MARKS))
    edge = _ROUNDING * max(abs(low), abs(high))
    # Of all voxels together, and not of the largest: one of 1e8 would excuse all others.
    norm = float(np.einsum("i,i->", flat, flat, dtype=np.float64)) ** 0.5
    near = _ROUNDING * (norm + abs(low) * flat.size**0.5)
    marks = (low, high, *(float(mark) for mark in (sums * signs).sum(axis=0)))
    return Likeness(shape=values.shape, marks=marks, near=(edge, edge, *(near,) * _MARKS))


@cache
def _weights() -> NDArray[np.float32]:
    return default_rng(0).standard_normal((_BLOCK, _MARKS), dtype=np.float32)
