"""Odd and wrong places and headers of volumes: forms that disagree, sizes of voxels, grids that are not the image's."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
from drafts import Draft, File
from register import each, fits, refused, volumes


def affine_of(file: File, affine: np.ndarray) -> None:
    """Give a file an affine as its sform, whatever nibabel thinks of it."""
    file.header = {"sform_code": 1, "qform_code": 0, **{f"srow_{n}": affine[i] for i, n in enumerate("xyz")}}


def scaled(draft: Draft, sizes: list[float]) -> None:
    """Give every file voxels of these sizes in mm."""
    volumes(draft)
    for file in each(draft):
        affine_of(file, np.diag([*sizes, 1.0]))


def one_mask(draft: Draft) -> tuple[File, np.ndarray]:
    """Return a mask, drawn, and a copy of its affine."""
    volumes(draft)
    file = draft.masks[draft.any()]
    assert file.affine is not None
    return file, file.affine.copy()


@fits
def two_forms_that_disagree(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        affine_of(file, np.diag([1.5, 1.5, 4.0, 1.0]))
        file.header.update(qform_code=1, qoffset_x=55.0, quatern_b=float(draft.rng.choice([0.0, 1.0, 7.0, np.nan])))


@fits
def huge_voxels(draft: Draft) -> None:
    scaled(draft, [1000.0, 1000.0, float(draft.rng.choice([1000.0, 1.0]))])


@fits
def tiny_voxels(draft: Draft) -> None:
    scaled(draft, [1e-3, 1e-3, float(draft.rng.choice([1e-3, 1.0]))])


@refused
def voxels_of_no_size_that_a_body_has(draft: Draft) -> None:
    size = float(draft.rng.choice([1e-12, 1e-20, 1e-40, 1e12, 1e20, 1e37]))
    scaled(draft, [size] * 3)


@fits
def a_place_far_away(draft: Draft) -> None:
    volumes(draft)
    affine = np.diag([1.5, 1.5, 4.0, 1.0])
    affine[:3, 3] = float(draft.rng.choice([1e5, -1e6]))
    for file in each(draft):
        affine_of(file, affine)


@fits
def mirrored_axes(draft: Draft) -> None:
    scaled(draft, [-1.5, -1.5, -4.0])


@fits
def axes_between_two_directions(draft: Draft) -> None:
    volumes(draft)
    half = np.sqrt(0.5)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[half, -half, 0], [half, half, 0], [0, 0, 1]]) @ np.diag([1.5, 1.5, 4.0])
    for number, file in enumerate(each(draft)):
        affine_of(file, affine + number * 1e-7)


@fits
def sheared(draft: Draft) -> None:
    volumes(draft)
    affine = np.diag([1.5, 1.5, 4.0, 1.0])
    affine[0, 2], affine[1, 0] = 3.0, 0.6
    for file in each(draft):
        affine_of(file, affine)


@fits
def a_mask_a_twentieth_of_a_voxel_away(draft: Draft) -> None:
    file, affine = one_mask(draft)
    affine[0, 3] += 0.05
    affine_of(file, affine)


@refused
def a_mask_a_little_away(draft: Draft) -> None:
    file, affine = one_mask(draft)
    affine[int(draft.rng.integers(3)), 3] += float(draft.rng.choice([0.4, -0.75, 1.5]))
    affine_of(file, affine)


@refused
def a_mask_with_a_flipped_axis(draft: Draft) -> None:
    file, affine = one_mask(draft)
    axis = int(draft.rng.integers(3))
    affine[:, axis] *= -1
    if draft.rng.integers(2):  # stored the other way round: the same voxels in another order
        affine[axis, 3] += (file.values.shape[axis] - 1) * abs(affine[axis, axis])
        file.values = np.flip(file.values, axis)
    affine_of(file, affine)


@refused
def a_mask_with_other_axes(draft: Draft) -> None:
    file, affine = one_mask(draft)
    file.values, file.affine = file.values.transpose(1, 0, 2), affine[:, [1, 0, 2, 3]]


@refused
def a_mask_of_another_spacing(draft: Draft) -> None:
    file, affine = one_mask(draft)
    affine[2, 2] *= 1.25
    affine_of(file, affine)


@refused
def almost_in_one_plane(draft: Draft) -> None:
    volumes(draft)
    affine = np.diag([1.5, 1.5, 4.0, 1.0])
    affine[:3, 1] = affine[:3, 0] + [0, 1e-7, 0]
    for file in each(draft):
        affine_of(file, affine)


@fits
def many_thin_slices(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.values = np.concatenate([file.values[:3, :2, :1]] * 2000, axis=2)
        if any(file is image for image in draft.images):
            file.values = (file.values + draft.rng.integers(0, 9, file.values.shape)).astype(np.int16)


@fits
def slopes_that_say_nothing(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.slope = float(draft.rng.choice([0.0, np.nan]))


@refused
def slopes_that_make_other_labels(draft: Draft) -> None:
    volumes(draft)
    draft.masks[draft.any()].slope = float(draft.rng.choice([-1.0, 2.0, 0.5, 1e38]))


@refused
def five_axes(draft: Draft) -> None:
    volumes(draft)
    file = draft.images[draft.any()]
    file.values = np.stack([file.values] * 3, -1)[..., None]


@fits
def zeros_behind_the_gzip(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.damage = lambda raw: raw + bytes(512)


@fits
def a_gzip_in_two_pieces(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.packed = False
        file.damage = lambda raw: gzip.compress(raw[:999]) + gzip.compress(raw[999:])


@refused
def something_behind_the_gzip(draft: Draft) -> None:
    volumes(draft)
    draft.images[draft.any()].damage = lambda raw: raw + b"x"


@refused
def kinds_of_numbers_that_are_not_read(draft: Draft) -> None:
    volumes(draft)
    odd: list[dict[str, Any]] = [{"datatype": 1, "bitpix": 1}, {"datatype": 1536, "bitpix": 128}]
    odd += [{"datatype": 2304, "bitpix": 32}, {"datatype": 1792, "bitpix": 128}, {"datatype": 0}]
    draft.images[draft.any()].header = odd[int(draft.rng.integers(5))]
