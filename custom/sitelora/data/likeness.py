"""Whether two images are one image to training, however they are stored: units, offset, type, bits, order of axes.

A hash tells only equal bits, and training scales every image by its own percentiles: CT in Hounsfield units, the same
plus 1024 and the same in thousandths are one picture to a network. So an image is first scaled as training scales it,
then gets a few marks, sums of its values with random signs and weights (a random projection, Johnson and Lindenstrauss
1984): how far the marks of two images are apart is how far the images are.
"""

from __future__ import annotations

import math
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
from sitelora.data.seen import Seen, compact, scaled, seen_in

_BLOCK, _MARKS = 1 << 16, 8
_LEVEL = 1 / 256
"""How far two forms of one image may be apart, root mean square over what is neither black nor white (our choice).

Rounding to 12 bits makes less than a tenth of it, to 8 bits of all values a half to one and a half. The nearest of
700000 pairs of different images (X-rays, hearts, cells, tissue, phantoms) were 8 times as far apart."""
_ROUNDING = 1e-6
"""Share of its own size by which a sum in single precision may be wrong."""
_Name = TypeVar("_Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What is left of an image to compare it by.

    Attributes:
        shape: of the values. marks: the sums; of an image of one value, which is seen as nothing, that value alone.
        near: how far the marks of the same image may be apart.
    """

    shape: tuple[int, ...]
    marks: tuple[float, ...]
    near: float

    @property
    def blank(self) -> bool:
        """Whether it is of an image of one value."""
        return len(self.marks) == 1

    def like(self, other: Likeness) -> bool:
        """Say whether the two are one image."""
        if self.shape != other.shape or self.blank != other.blank:
            return False
        return math.dist(self.marks, other.marks) <= max(self.near, other.near)


def likenesses(image: Pixels, seen: Seen | None = None) -> tuple[Likeness, ...]:
    """Return an image's likeness; of a volume also that of its axes turned to the same directions in the body.

    Args:
        image: as ``read_image`` gives it, fp32. seen: its ``seen_in``, where that is known already.
    """
    values = image.values
    if values.ndim > len(image.extent) and (values == values[..., :1]).all():
        values = values[..., 0]
    seen = seen or seen_in(compact(values))
    if seen.by == "nothing":
        return (Likeness(shape=values.shape, marks=(seen.low,), near=_ROUNDING * abs(seen.low)),)
    values = scaled(values, seen.low, seen.high)
    views = [values]
    if image.affine is not None:
        views.append(apply_orientation(values, io_orientation(image.affine)))
    if len(views) == 2 and views[1].shape == values.shape and views[1].strides == values.strides:
        views.pop()  # they lie so already
    between = values.size - int((values == 0).sum()) - int((values == 1).sum())
    near = _LEVEL * between**0.5 + _ROUNDING * float(np.einsum("i,i->", *(values.reshape(-1),) * 2)) ** 0.5
    return tuple(Likeness(shape=view.shape, marks=_marks(view), near=near) for view in views)


def same_images(found: Iterable[tuple[_Name, Likeness]]) -> list[list[_Name]]:
    """Return the groups of more than one name whose images are one image, names in the order in which they are given.

    A name may be there with several views.
    """
    places: dict[_Name, int] = {}
    by_shape: dict[tuple[int, ...], list[tuple[_Name, Likeness]]] = defaultdict(list)
    for name, likeness in found:
        by_shape[likeness.shape].append((name, likeness))
        places.setdefault(name, len(places))
    group: dict[_Name, list[_Name]] = {}
    for several in by_shape.values():
        several.sort(key=lambda one: one[1].marks[-1])
        sums = np.array([likeness.marks[-1] for _, likeness in several])
        for name, likeness in several:  # in both directions: another one's marks may be nearer to it than it is to them
            first, last = np.searchsorted(
                sums, (likeness.marks[-1] - likeness.near, likeness.marks[-1] + likeness.near)
            )
            for other, one in several[int(first) : int(last) + 1]:
                if other != name and likeness.like(one):
                    mine, theirs = group.setdefault(name, [name]), group.setdefault(other, [other])
                    if mine is not theirs:
                        mine += theirs
                        group.update(dict.fromkeys(theirs, mine))
    groups = {id(names): sorted(names, key=places.__getitem__) for names in group.values()}
    return sorted(groups.values(), key=lambda names: places[names[0]])


def _marks(values: NDArray[np.float32]) -> tuple[float, ...]:
    """Return sums whose distance from another image's is, but for chance, that of the images, root of squares."""
    flat = values.reshape(-1)
    whole = flat.size // _BLOCK
    sums = np.zeros((whole + 1, _MARKS))
    sums[:whole] = flat[: whole * _BLOCK].reshape(whole, _BLOCK) @ _weights()
    sums[whole] = flat[whole * _BLOCK :] @ _weights()[: flat.size - whole * _BLOCK]
    signs = 2 * default_rng(1).integers(0, 2, (whole + 1, _MARKS)) - 1
    return tuple(float(mark) for mark in (sums * signs).sum(axis=0) / _MARKS**0.5)


@cache
def _weights() -> NDArray[np.float32]:
    return default_rng(0).standard_normal((_BLOCK, _MARKS), dtype=np.float32)
