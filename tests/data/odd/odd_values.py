"""Odd and wrong values, kinds of numbers, shapes and places."""

from __future__ import annotations

from typing import Any

import numpy as np
from drafts import Draft
from register import each, fits, refused, volumes

# Values


@fits
def nothing(draft: Draft) -> None:
    pass


@fits
def constant_image(draft: Draft) -> None:
    file = draft.images[draft.any()]
    file.values = np.full_like(file.values, draft.rng.choice([0, 7, 200]))


@fits
def every_image_constant(draft: Draft) -> None:
    for number, file in enumerate(draft.images):
        file.values = np.full_like(file.values, number)


@fits
def one_bright_block(draft: Draft) -> None:
    volumes(draft)
    for number, file in enumerate(draft.images):
        file.values = np.zeros((32, 32, 6), np.int16)
        file.values[3 + number : 6 + number, 3:6, 2:5] = 3000 + number
    for number, file in enumerate(draft.masks):
        file.values = np.zeros((32, 32, 6), np.uint8)
        file.values[3 + number : 6 + number, 3:6, 2:5] = 1


@fits
def empty_masks(draft: Draft) -> None:
    for file in draft.masks:
        file.values = np.zeros_like(file.values)


@fits
def full_masks(draft: Draft) -> None:
    for file in draft.masks:
        file.values = np.ones_like(file.values)


@fits
def one_voxel_mask(draft: Draft) -> None:
    for file in draft.masks:
        file.values = np.zeros_like(file.values)
        file.values[(3,) * file.values.ndim] = 1


@fits
def negative_values(draft: Draft) -> None:
    volumes(draft)
    for file in draft.images:
        file.values = file.values.astype(np.int16) - 1024


@fits
def tiny_values(draft: Draft) -> None:
    volumes(draft)
    for file in draft.images:
        file.values = file.values.astype(np.float32) * np.float32(10.0 ** -draft.rng.integers(20, 42))


@fits
def large_values(draft: Draft) -> None:
    volumes(draft)
    for file in draft.images:
        file.values = file.values.astype(np.float64) * 10.0 ** draft.rng.integers(10, 35)


@refused
def values_beyond_fp32(draft: Draft) -> None:
    volumes(draft)
    file = draft.images[draft.any()]
    file.values = file.values.astype(np.float64)
    file.values[0, 0, 0] = draft.rng.choice([1e300, -1e39, 1e39])


@refused
def values_as_far_apart_as_fp32_goes(draft: Draft) -> None:
    volumes(draft)
    file = draft.images[draft.any()]
    file.values = np.where(file.values > 100, 3e38, -3e38).astype(np.float32)


@refused
def not_finite(draft: Draft) -> None:
    volumes(draft)
    file = draft.images[draft.any()]
    file.values = file.values.astype(np.float32)
    file.values[draft.rng.integers(20), 3, :] = draft.rng.choice([np.nan, np.inf, -np.inf])


# Kinds of numbers


@fits
def other_dtypes(draft: Draft) -> None:
    volumes(draft)
    kinds = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64, np.int64, np.uint64]
    for file in draft.images:
        file.values = np.minimum(file.values, 120).astype(draft.rng.choice(np.array(kinds, object)))
    for file in draft.masks:
        file.values = file.values.astype(draft.rng.choice(np.array(kinds, object)))


@fits
def big_endian(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.order = ">"
        file.values = file.values.astype(draft.rng.choice(np.array([np.int16, np.float32, np.float64], object)))


@fits
def nifti_two(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.nifti2, file.order = True, str(draft.rng.choice(["<", ">"]))


@fits
def slopes(draft: Draft) -> None:
    volumes(draft)
    for file in draft.images:
        file.slope = float(draft.rng.choice([0.5, -2.0, 1e-4, 3.7]))
    for file in draft.masks:
        file.values, file.slope = file.values * np.uint8(255), 1 / 255


@fits
def labels_near_whole_numbers(draft: Draft) -> None:
    volumes(draft)
    for file in draft.masks:
        file.values = file.values * np.float32(draft.rng.choice([0.9999999, 1.0000001, 0.9995]))


@refused
def labels_between_whole_numbers(draft: Draft) -> None:
    volumes(draft)
    file = draft.masks[draft.any()]
    file.values = file.values * np.float32(draft.rng.choice([0.5, 0.9, 0.99, np.nan, np.inf]))


@refused
def unknown_label(draft: Draft) -> None:
    factor = np.uint8(draft.rng.choice([2, 3, 128, 255]))
    for file in draft.masks:
        file.values = file.values * factor


@refused
def negative_label(draft: Draft) -> None:
    volumes(draft)
    for file in draft.masks:
        file.values = -file.values.astype(np.int16)


@refused
def labels_with_a_gap(draft: Draft) -> None:
    value = int(draft.rng.choice([2, 255]))
    draft.labels = {"0": "background", str(value): "organ"}
    for file in draft.masks:
        file.values = file.values * np.uint8(value)


@refused
def labels_below_zero(draft: Draft) -> None:
    volumes(draft)
    draft.labels = {"0": "background", "-1": "organ"}
    for file in draft.masks:
        file.values = -file.values.astype(np.int16)


@fits
def two_structures(draft: Draft) -> None:
    draft.labels["2"] = "lesion"
    draft.values["classes"] = 2
    for file in draft.masks[: draft.rng.integers(5)]:
        file.values[8:10, 6:8] = 2


@refused
def another_number_of_structures(draft: Draft) -> None:
    draft.labels["2"] = "lesion"


@refused
def complex_values(draft: Draft) -> None:
    volumes(draft)
    file = draft.images[draft.any()]
    file.values = file.values.astype(np.complex64)


@refused
def structured_values(draft: Draft) -> None:
    volumes(draft)
    file = draft.images[draft.any()]
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    file.values = np.zeros(file.values.shape, kind)


# Shapes


@fits
def one_slice(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.values = file.values[:, :, :1]


@fits
def sizes_of_all_sorts(draft: Draft) -> None:
    for image, mask in zip(draft.images, draft.masks, strict=True):
        shape = tuple(int(n) for n in draft.rng.integers(2, 40, image.values.ndim))
        image.values = draft.rng.integers(0, 200, shape).astype(image.values.dtype)
        mask.values = draft.rng.integers(0, 2, shape).astype(np.uint8)


@fits
def one_voxel_wide(draft: Draft) -> None:
    for file in each(draft):
        file.values = file.values[10:11]


@fits
def one_voxel_in_all(draft: Draft) -> None:
    for file in each(draft):
        file.values = file.values[10:11, 10:11]


@fits
def an_axis_of_one_more(draft: Draft) -> None:
    volumes(draft)
    for number, file in enumerate(each(draft)):
        file.values = file.values[..., None] if number % 2 else file.values[..., None, None]


@fits
def colours(draft: Draft) -> None:
    for number, file in enumerate(draft.images):
        file.values = np.stack([file.values, file.values // 2, file.values // (3 + number)], -1)


@refused
def phases(draft: Draft) -> None:
    volumes(draft)
    for file in draft.images[draft.any() :]:
        file.values = np.stack([file.values] * int(draft.rng.choice([2, 4, 5])), -1)


@refused
def grey_and_colours_in_training(draft: Draft) -> None:
    file = draft.images[0]
    file.values = np.stack([file.values, file.values // 2, file.values // 3], -1)


@refused
def a_mask_of_phases(draft: Draft) -> None:
    volumes(draft)
    file = draft.masks[draft.any()]
    file.values = np.stack([file.values] * 3, -1)


@refused
def two_axes(draft: Draft) -> None:
    volumes(draft)
    number = draft.any()
    for file in (draft.images[number], draft.masks[number]):
        file.values = file.values[:, :, 0]


@refused
def no_voxel(draft: Draft) -> None:
    volumes(draft)
    file = draft.images[draft.any()]
    file.values = file.values[:0]


@refused
def another_shape(draft: Draft) -> None:
    file = draft.masks[draft.any()]
    file.values = file.values[:-1] if draft.rng.integers(2) else file.values.swapaxes(0, 1)


# Places


@fits
def any_orientation(draft: Draft) -> None:
    volumes(draft)
    for image, mask in zip(draft.images, draft.masks, strict=True):
        order = draft.rng.permutation(3)
        affine = np.zeros((4, 4))
        for axis, world in enumerate(order):
            affine[world, axis] = draft.rng.choice([-1, 1]) * draft.rng.uniform(0.4, 5)
        affine[:3, 3], affine[3, 3] = draft.rng.normal(0, 100, 3), 1
        image.affine = mask.affine = affine


@fits
def oblique(draft: Draft) -> None:
    volumes(draft)
    for image, mask in zip(draft.images, draft.masks, strict=True):
        turn, _ = np.linalg.qr(draft.rng.normal(size=(3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([0.7, 0.9, 3.0])
        image.affine = mask.affine = affine


@fits
def no_geometry(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.header = {"sform_code": 0, "qform_code": 0, "pixdim": [1, 1.5, 1.5, 4, 1, 1, 1, 1]}


@fits
def pixdim_that_contradicts(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.header = {"pixdim": [1, 7, 8, 9, 1, 1, 1, 1]}


@fits
def other_units(draft: Draft) -> None:
    volumes(draft)
    for file in each(draft):
        file.header = {"units": str(draft.rng.choice(["micron", "meter", "unknown"]))}


@refused
def affine_without_volume(draft: Draft) -> None:
    volumes(draft)
    number = draft.any()
    affine = np.diag([1.5, 1.5, 4.0, 1.0])
    if draft.rng.integers(2):
        affine[:, 1] = affine[:, 0]
    else:
        affine[:3, 2] = 0
    draft.images[number].header = draft.masks[number].header = {
        "sform_code": 1, "srow_x": affine[0], "srow_y": affine[1], "srow_z": affine[2]
    }  # fmt: skip


@refused
def affine_not_finite(draft: Draft) -> None:
    volumes(draft)
    row = [float(draft.rng.choice([np.nan, np.inf])), 0, 0, 0]
    draft.images[draft.any()].header = {"sform_code": 1, "srow_x": row}


@refused
def label_elsewhere(draft: Draft) -> None:
    volumes(draft)
    file = draft.masks[draft.any()]
    assert file.affine is not None
    file.affine = file.affine.copy()
    file.affine[0, 3 if draft.rng.integers(2) else 0] += 5


@refused
def odd_headers(draft: Draft) -> None:
    volumes(draft)
    odd: list[dict[str, Any]] = [
        {"vox_offset": 0},
        {"vox_offset": 1e9},
        {"datatype": 9999},
        {"dim": [3, -6, 5, 4, 1, 1, 1, 1]},
    ]
    odd += [{"dim": [0, 1, 1, 1, 1, 1, 1, 1]}, {"magic": b"ni1"}, {"scl_slope": 1, "scl_inter": np.nan}]
    draft.images[draft.any()].header = odd[int(draft.rng.integers(len(odd)))]
