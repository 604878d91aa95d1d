import numpy as np
import pytest

from sitelora.tasks.images.hanging import radiological, window_of


def test_window_of_ignores_extremes_and_keeps_bytes():
    image = np.random.default_rng(0).normal(100, 10, (64, 64))
    image[0, 0] = 1e6
    low, high = window_of(image)
    assert 60 < low < 90
    assert 110 < high < 140
    assert window_of(image.clip(0, 255).astype(np.uint8)) == (0.0, 255.0)


def world_picture(codes):
    """A volume whose values tell where a voxel is: 1 to the right, 10 in front; axes along ``codes``."""
    directions = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine, shape = np.eye(4), (4, 4, 4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        affine[directions[code][0], axis] = directions[code][1]
    world = np.tensordot(affine[:3, :3], np.indices(shape) - 1.5, axes=1)
    return affine, (world[0] > 0) * 1 + (world[1] > 0) * 10 + (world[2] > 0) * 100


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PRS", "ALI", "PLS"])
def test_axial_slices_hang_with_the_right_side_left_and_the_front_up(codes):
    affine, volume = world_picture(codes)
    hanging = radiological(affine)
    picture = hanging.hang(volume[..., 0]) % 100
    assert picture[:2, :2].tolist() == [[11, 11], [11, 11]]  # right and anterior
    assert picture[2:, 2:].tolist() == [[0, 0], [0, 0]]
    assert hanging.left_letter == "R"


@pytest.mark.parametrize("codes", ["RSA", "SRP", "ILA"])
def test_coronal_slices_hang_with_the_right_side_left_and_the_head_up(codes):
    affine, volume = world_picture(codes)
    picture = radiological(affine).hang(volume[..., 0])
    assert set(picture[:2, :2].ravel() % 10) == {1}
    assert set(picture[:2, :2].ravel() // 100) == {1}
    assert set(picture[2:, 2:].ravel() // 100) == {0}


def test_sagittal_slices_hang_with_the_front_left_and_the_head_up():
    affine, volume = world_picture("PSR")
    hanging = radiological(affine)
    picture = hanging.hang(volume[..., 0])
    assert set(picture[:2, :2].ravel() // 10) == {11}
    assert hanging.left_letter == "A"
