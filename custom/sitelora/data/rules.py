"""What an image and a label must be. ``check``, training, scoring and serving all judge by these functions.

Where several answers were possible, ours is written beside the rule; docs/data.md has all of them in one table.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from sitelora.data.errors import UnfitFileError, first_few
from sitelora.data.reading import Pixels, read_pixels

CHANNELS = (1, 3)
"""What an image may have unless a bundle says otherwise: grey, or colours."""
NEAR = 1e-3
"""A label value this near to a whole number is that number (our choice): 0.9999999, or 255 with a slope of 1/255."""
SIZES_MM = (1e-5, 1e5)
"""A voxel's sides and (the larger one times a thousand) its place: beyond, distances in mm are no numbers any more."""
FLAT = 1e-6
"""Voxel axes whose volume is below this share of the box of their lengths count as lying in one plane."""


def read_image(path: Path, channels: Collection[int] = CHANNELS) -> Pixels:
    """Read an image as training sees it before any transform.

    Args:
        path: the file. channels: how many values a voxel may have.

    Returns:
        Values in fp32, one channel ``[X, Y, Z]`` (``[H, W]``) or several ``[X, Y, Z, c]`` (``[H, W, c]``).

    Raises:
        SiteDataError: unreadable, or unfit by one of these rules.
    """
    return judged_image(read_pixels(path), path, channels)


def read_label(path: Path, listed: Collection[int] | None = None) -> Pixels:
    """Read a label map.

    Args:
        path: the file.
        listed: the label values that may occur; ``None`` for any whole number.

    Returns:
        Values uint8 (int32 where they do not fit) ``[X, Y, Z]`` or ``[H, W]``.

    Raises:
        SiteDataError: unreadable, or unfit by one of these rules.
    """
    return judged_label(read_pixels(path), path, listed)


def judged_image(pixels: Pixels, path: Path, channels: Collection[int] = CHANNELS) -> Pixels:
    """Apply the rules of an image; see :func:`read_image`."""
    pixels = _opaque(_in_colours(pixels, path), path)
    if pixels.channels not in channels:
        found = f"{pixels.channels} channels or phases (shape {pixels.values.shape})"
        remedy = "export one phase, or grey, or colours without transparency"
        if 2 in channels and pixels.affine is not None:
            remedy = "write end-diastole and end-systole into one file, [X, Y, Z, 2] in this order"
        raise UnfitFileError(path, found, " or ".join(str(number) for number in sorted(channels)), remedy)
    pixels = _said_to_be_colours(pixels)
    values = pixels.values
    if values.ndim > len(pixels.extent) and pixels.channels == 1:
        values = values.reshape(pixels.extent)
    require_volume(pixels, path)
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
    bad = single.size - int(np.isfinite(single).sum())
    if bad:
        beyond = bad - (values.size - int(np.isfinite(values).sum()))
        found = f"{bad} NaN or infinite value(s)" + (f", {beyond} of them too large for fp32" if beyond else "")
        raise UnfitFileError(path, found, "finite numbers", "export the image again or replace them")
    with np.errstate(over="ignore"):
        span = single.max() - single.min()
    if not np.isfinite(span):
        found = f"values from {single.min():.3g} to {single.max():.3g}, too far apart for fp32"
        raise UnfitFileError(path, found, "a span below 3e38", "export the image again or replace the extremes")
    return replace(pixels, values=single)


def judged_label(pixels: Pixels, path: Path, listed: Collection[int] | None = None) -> Pixels:
    """Apply the rules of a label map; see :func:`read_label`."""
    pixels = pixels if pixels.palette is not None else _opaque(pixels, path)  # of a palette the indices count
    if pixels.channels != 1:
        found = f"a label with {pixels.channels} channels (shape {pixels.values.shape})"
        raise UnfitFileError(path, found, "one value a voxel", "save the label values, not colours")
    require_volume(pixels, path)
    array = pixels.values.reshape(pixels.extent)
    values, counts = occurring(array)
    wrong = [
        f"{_number(value)} ({count} voxels)"
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if not _is_label(value, listed)
    ]
    if wrong:
        expected = "only whole numbers" if listed is None else f"only {sorted(listed)}"
        remedy = "write the masks anew with the values 0 to n that labels in dataset.json lists"
        raise UnfitFileError(path, f"unknown label value(s) {first_few(wrong)}", expected, remedy)
    whole = np.rint(array) if array.dtype.kind == "f" else array
    small = values.min() >= 0 and values.max() < 255.5
    return replace(pixels, values=whole.astype(np.uint8 if small else np.int32))


def occurring(array: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """Return the distinct values of an array and how often each occurs."""
    if array.dtype == np.uint8:
        counts = np.bincount(array.reshape(-1), minlength=256)
        return np.flatnonzero(counts), counts[counts > 0]
    values, counts = np.unique(array, return_counts=True)
    return values, counts


def same_grid(image: Pixels, label: Pixels, path: Path) -> None:
    """Refuse a label that does not lie on its image.

    Args:
        image: as :func:`read_image` gives it. label: as :func:`read_label` gives it. path: of the label.

    Raises:
        UnfitFileError: another kind, shape, place or turn; a tenth of a voxel apart is near enough.
    """
    if (image.affine is None) != (label.affine is None):
        raise UnfitFileError(path, "a volume and a picture", "image and label of one kind", "export both alike")
    if label.values.shape != image.extent:
        found, expected = f"label shape {label.values.shape}", f"{image.extent} as the image has"
        raise UnfitFileError(path, found, expected, "export the label on the image's grid")
    if image.affine is None or label.affine is None:
        return
    corners = np.array(list(np.ndindex(*(2,) * 3))) * (np.array(image.extent) - 1)
    homogeneous = np.column_stack([corners, np.ones(len(corners))])
    apart_mm = float(np.linalg.norm((image.affine - label.affine) @ homogeneous.T, axis=0).max())
    turned = not np.array_equal(io_orientation(image.affine), io_orientation(label.affine))
    if turned or not apart_mm < 0.1 * min(image.spacing_mm or (1.0,)):
        found = f"a label that lies up to {apart_mm:.2f} mm from its image (their affines differ)"
        raise UnfitFileError(path, found, "the same affine", "resample the label onto the image's grid")


def require_kind(image: Pixels, path: Path, *, pictures: bool) -> None:
    """Refuse a picture where volumes are expected, and the reverse.

    Raises:
        UnfitFileError: says what the file is and which value of the bundle goes with it.
    """
    picture = image.affine is None
    if picture != pictures:
        found = "a picture (PNG)" if picture else "a volume (NIfTI)"
        expected = f"{'pictures' if pictures else 'volumes'} (pictures={str(pictures).lower()})"
        remedy = f"set pictures={str(picture).lower()}, or use a model of {'pictures' if picture else 'volumes'}"
        raise UnfitFileError(path, found, expected, remedy)


def require_volume(pixels: Pixels, path: Path) -> None:
    """Refuse a volume that lies nowhere in space.

    Raises:
        UnfitFileError: its axes span no volume, or its sizes are no sizes in mm.
    """
    if pixels.affine is None:
        return
    axes = pixels.affine[:3, :3]
    box = float(np.prod(np.linalg.norm(axes, axis=0)))
    if not (np.isfinite(pixels.affine).all() and box > 0 and abs(np.linalg.det(axes)) > FLAT * box):
        found = f"an affine without volume, {axes.tolist()}"
        raise UnfitFileError(path, found, "voxel axes in mm", "export the image again with its geometry")
    steps, away = pixels.spacing_mm or (1.0,), float(np.abs(pixels.affine[:3, 3]).max())
    if min(steps) < SIZES_MM[0] or max(steps) > SIZES_MM[1] or away > 1e3 * SIZES_MM[1]:
        sizes = " x ".join(f"{step:g}" for step in steps)
        found, expected = f"voxels of {sizes} mm, {away:g} mm away", "sizes from {:g} to {:g} mm".format(*SIZES_MM)
        raise UnfitFileError(path, found, expected, "export the image again with its geometry in mm")


def refuse_one_value(lowest: float, highest: float, path: Path) -> None:
    """Refuse an image that shows nothing: what is predicted of it would be made up.

    Raises:
        UnfitFileError: its lowest and its highest value are equal.
    """
    if not highest > lowest:
        found = f"the same value {lowest + 0.0:g} everywhere"
        raise UnfitFileError(path, found, "an image of something", "export it again")


def slices_of(pixels: Pixels) -> int:
    """Return how many slices the network sees: along the axis that is nearest to head-feet; 1 of a picture.

    Of a stack of two phases it is the file's third axis: a short axis is oblique, and which of the body's axes is
    nearest to it differs from patient to patient.
    """
    if pixels.affine is None:
        return 1
    if pixels.channels == 2:
        return int(pixels.extent[2])
    axis = int(np.flatnonzero(io_orientation(pixels.affine)[:, 0] == 2)[0])
    return int(pixels.extent[axis])


def _in_colours(pixels: Pixels, path: Path) -> Pixels:
    """Replace the indices of a palette picture by its colours, and say so; refuse an index without a colour."""
    if pixels.palette is None:
        return pixels
    if pixels.values.max() >= len(pixels.palette):
        found = f"a palette of {len(pixels.palette)} colours and pixels of colour {pixels.values.max()}"
        raise UnfitFileError(path, found, "a colour for every pixel", "export the image again, in grey or colours")
    values = pixels.palette[pixels.values]
    return replace(pixels, values=values, palette=None, remarks=(*pixels.remarks, "a palette picture, read as colours"))


def _said_to_be_colours(pixels: Pixels) -> Pixels:
    """Say of a volume with three values a voxel what they are taken for, unless nothing else can be meant.

    Colours are stored in 8 bits; three phases, times or sequences of a scanner mostly are not.
    """
    values = pixels.values
    if pixels.affine is None or pixels.channels != 3 or values.dtype == np.uint8 or (values == values[..., :1]).all():
        return pixels
    remark = "three channels, taken as the colours of one image: phases, times or sequences are none"
    return replace(pixels, remarks=(*pixels.remarks, remark))


def _opaque(pixels: Pixels, path: Path) -> Pixels:
    """Drop an alpha channel that hides nothing, and say so; refuse one that hides something."""
    if pixels.affine is not None:
        return pixels
    values, alpha = pixels.values, pixels.alpha
    if pixels.channels in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
        values = values[..., 0] if values.shape[-1] == 1 else values
    if alpha is None:
        return pixels
    if alpha.min() < (255 if alpha.dtype == np.uint8 else 65535):
        found = f"a picture of {int((alpha < alpha.max()).sum()) or alpha.size} transparent pixel(s)"
        raise UnfitFileError(path, found, "grey (1 channel) or colours (3)", "export it without transparency")
    remark = "an alpha channel that hides nothing, left out"
    return replace(pixels, values=values, alpha=None, remarks=(*pixels.remarks, remark))


def _is_label(value: float, listed: Collection[int] | None) -> bool:
    if not (math.isfinite(value) and abs(value - round(value)) <= NEAR and abs(value) < 2**31 - 1):
        return False
    return listed is None or round(value) in listed


def _number(value: float) -> str:
    whole = math.isfinite(value) and value == round(value)
    return f"{round(value)}" if whole and abs(value) < 1e15 else f"{value:.9g}"
