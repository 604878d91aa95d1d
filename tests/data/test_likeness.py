"""One image in two forms is one image to training; two that differ by more than rounding are two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sitelora.data.likeness import likenesses, same_images
from sitelora.data.reading import Pixels

AFFINE = np.diag([1.5, 1.5, 4.0, 1.0])


def volume(values: np.ndarray, affine: np.ndarray = AFFINE) -> Pixels:
    return Pixels(values=values.astype(np.float32), affine=affine)


def picture(values: np.ndarray) -> Pixels:
    return Pixels(values=values.astype(np.float32), affine=None)


def noise(*, seed: int = 0, shape: tuple[int, ...] = (48, 40, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3000, shape).astype(np.float64)


def groups(**images: Pixels) -> list[list[str]]:
    found = same_images([(name, one) for name, image in images.items() for one in likenesses(image)])
    return sorted(sorted(group) for group in found)


@pytest.mark.parametrize("slope", [0.1, 0.37, np.float64(np.float32(0.1)), -2.3])
def test_a_slope_makes_no_other_image(slope: float) -> None:
    stored = noise()
    assert groups(a=volume(stored * slope), b=volume(stored.astype(np.float32) * np.float32(slope))) == [["a", "b"]]


def test_another_order_of_axes_and_a_mirrored_one_make_no_other_image() -> None:
    a = noise()
    mirrored = AFFINE @ np.diag([-1.0, 1, 1, 1])
    turned = volume(a.transpose(2, 0, 1), AFFINE[:, [2, 0, 1, 3]])
    assert groups(a=volume(a), b=turned, c=volume(a[::-1], mirrored), d=volume(noise(seed=1))) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v / 1000,
        lambda v: v + 1024,
        lambda v: v * 1e-30,
        lambda v: (v * 257).astype(np.uint16),
        lambda v: np.rint(v * (65535 / 255)),
        lambda v: np.rint((v - 3) * (255 / 200)),
        lambda v: (v * 7.31 - 400).astype(np.int16),
        lambda v: (v - v.mean()) / v.std(),
    ],
    ids=["thousandths", "offset", "tiny", "16 bits", "wide", "8 bits", "cut off", "standardised"],
)
def test_other_units_an_offset_or_other_bits_make_no_other_image(change: Callable[[np.ndarray], np.ndarray]) -> None:
    stored = np.random.default_rng(0).normal(120, 40, (48, 40, 40)).clip(3, 203)
    stored[:8] = 3
    assert groups(a=volume(np.rint(stored)), b=volume(change(np.rint(stored)))) == [["a", "b"]]
    assert groups(a=picture(np.rint(stored[:, 0])), b=picture(change(np.rint(stored[:, 0])))) == [["a", "b"]]


def test_a_negative_and_another_curve_of_grey_are_other_images() -> None:
    a = noise()
    assert groups(a=volume(a), b=volume(-a), c=volume(np.sqrt(a)), d=volume(a**2)) == []


def test_a_part_of_the_picture_makes_another_image() -> None:
    a = noise()
    b, c = a.copy(), np.zeros_like(a)
    b[5:9, 5:9, 5:9] = 3000
    c[3:6, 3:6, 3:6] = 3000
    d, e = c.copy(), np.roll(c, 1, axis=0)
    d[3, 3, 3] += 100
    assert groups(a=volume(a), b=volume(b), c=volume(c), d=volume(d), e=volume(e)) == []


def test_slices_side_by_side_are_two_images() -> None:
    """The nearest that different images come: one anatomy, one scanner, a step further."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, 160),) * 2, indexing="ij")
    rng = np.random.default_rng(0)
    body = [100 * (x**2 + y**2 < 0.8) + 60 * (x**2 + (y - 0.1) ** 2 < r**2) for r in (0.30, 0.31)]
    a, b = (np.rint(one + rng.normal(0, 2, one.shape)) for one in body)
    assert groups(a=picture(a), b=picture(b), c=picture(a * 10)) == [["a", "c"]]


def test_one_enormous_voxel_does_not_make_one_image_of_two() -> None:
    a, b = noise(), noise(seed=1)
    a[0, 0, 0] = b[0, 0, 0] = 1e8
    assert groups(a=volume(a), b=volume(b), c=volume(a.astype(np.float32))) == [["a", "c"]]


def test_constant_images_are_one_when_the_value_is_one_and_grey_is_grey_in_colours() -> None:
    flat = np.full((6, 8), 7.0, np.float32)
    grey = np.arange(48, dtype=np.float32).reshape(6, 8)
    found = groups(
        a=picture(flat),
        b=picture(flat.copy()),
        c=picture(flat + 1),
        d=picture(grey),
        e=picture(np.stack([grey] * 3, -1)),
        f=picture(np.stack([grey, grey, grey + 1], -1)),
    )
    assert found == [["a", "b"], ["d", "e"]]
