import numpy as np
import pytest
from PIL import Image

from sitelora.tasks.images.card import PREDICTION, TRUTH
from sitelora.tasks.masks.case_picture import draw_case
from sitelora.tasks.masks.overlays import best_slice, draw_overlay

STRIP = 38  # pixels of black above and below the picture


def disc(shape, centre, radius):
    rows, columns = np.indices(shape)
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2).astype(np.uint8)


def drawn(path):
    """The picture without its strips, ``[H, W, 3]``."""
    return np.asarray(Image.open(path).convert("RGB"), dtype=int)[STRIP:-STRIP]


def where(picture, colour, tolerance=12):
    """Mean row and column, as shares of the picture, of the pixels of one colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    hits = np.argwhere(np.abs(picture - wanted).max(axis=2) <= tolerance)
    assert len(hits) > 20, f"no line in {colour}"
    return hits.mean(axis=0) / picture.shape[:2]


def test_truth_and_prediction_are_outlined_where_they_are(tmp_path):
    truth, prediction = disc((80, 100), (30, 25), 12), disc((80, 100), (50, 75), 12)
    draw_overlay(np.zeros((80, 100)), truth, prediction, tmp_path / "a" / "x.png", title="case")
    picture = drawn(tmp_path / "a" / "x.png")
    assert where(picture, TRUTH) == pytest.approx([30.5 / 80, 25.5 / 100], abs=0.01)
    assert where(picture, PREDICTION) == pytest.approx([50.5 / 80, 75.5 / 100], abs=0.01)


@pytest.mark.parametrize(("pixel_mm", "ratio"), [((1.0, 1.0), 0.5), ((3.0, 1.0), 1.5), ((0.5, 1.0), 0.25)])
def test_proportions_are_physical(tmp_path, pixel_mm, ratio):
    truth = disc((40, 80), (20, 40), 9)
    draw_overlay(truth * 1.0, truth, truth, tmp_path / "x.png", title="", pixel_mm=pixel_mm)
    height, width = drawn(tmp_path / "x.png").shape[:2]
    assert height / width == pytest.approx(ratio, abs=0.01)


def test_the_window_is_the_callers_and_not_the_slices(tmp_path):
    empty = np.zeros((40, 40), int)
    for name, window in (("low", (0.0, 100.0)), ("high", (0.0, 400.0))):
        draw_overlay(np.full((40, 40), 100.0), empty, empty, tmp_path / f"{name}.png", title="", window=window)
    assert drawn(tmp_path / "low.png").mean() == 255
    assert drawn(tmp_path / "high.png").mean() == pytest.approx(64, abs=1)


def test_a_mask_at_the_border_is_closed_and_empty_masks_are_fine(tmp_path):
    truth = np.zeros((50, 50), int)
    truth[:20, :] = 1
    draw_overlay(np.zeros((50, 50)), truth, np.zeros_like(truth), tmp_path / "x.png", title="")
    picture = drawn(tmp_path / "x.png")
    wanted = [int(TRUTH[i : i + 2], 16) for i in (1, 3, 5)]
    for edge in (picture[0], picture[5:180, 0], picture[5:180, -1]):  # upper edge and the upper part of the sides
        assert (abs(edge - wanted).max(axis=1) < 40).mean() > 0.9


def test_a_tumour_inside_an_organ_is_dashed_although_they_share_a_border(tmp_path):
    organ = disc((100, 100), (50, 50), 40)
    truth = np.where(disc((100, 100), (50, 50), 15), 2, organ)
    draw_overlay(
        np.zeros((100, 100)), truth, truth * 0, tmp_path / "x.png", title="", labels={1: "kidney", 2: "tumour"}
    )
    picture = drawn(tmp_path / "x.png")
    rows, columns = np.indices(picture.shape[:2])
    angle, radius = np.arctan2(rows - 240, columns - 240), np.hypot(rows - 240, columns - 240) / 480 * 100
    light = picture.sum(axis=2) > 300
    seen = {}
    for name, size in (("kidney", 40), ("tumour", 15)):
        ring = light & (abs(radius - size) < 2)
        seen[name] = len(np.unique(np.floor(angle[ring] * 180 / np.pi / 2)))  # of 180 directions
    assert seen["kidney"] > 175
    assert seen["tumour"] < 165


def test_rgb_pictures_keep_their_colours(tmp_path):
    image = np.zeros((30, 30, 3), np.uint8)
    image[..., 0] = 200
    draw_overlay(image, np.zeros((30, 30), int), np.zeros((30, 30), int), tmp_path / "x.png", title="")
    assert drawn(tmp_path / "x.png").reshape(-1, 3).mean(axis=0) == pytest.approx([200, 0, 0], abs=1)


def test_arrays_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(8, 9\).*expected"):
        draw_overlay(np.zeros((8, 8)), np.zeros((8, 9), int), np.zeros((8, 9), int), tmp_path / "x.png", title="")
    with pytest.raises(ValueError, match=r"\(8, 8, 3\).*expected"):
        draw_case(np.zeros((8, 8, 3)), np.zeros((8, 8, 4), int), np.zeros((8, 8, 4), int), tmp_path / "x.png", title="")
    assert not list(tmp_path.iterdir())


def test_best_slice_has_the_most_truth_then_the_most_prediction():
    truth, prediction = np.zeros((9, 9, 5), int), np.zeros((9, 9, 5), int)
    assert best_slice(truth, prediction) == 2
    prediction[:3, :3, 4] = 1
    assert best_slice(truth, prediction) == 4
    truth[:2, :2, 1] = 1
    truth[:3, :3, 3] = 2
    assert best_slice(truth, prediction) == 3


def test_a_case_is_drawn_in_true_proportions_after_hanging(tmp_path):
    volume = np.zeros((40, 20, 3))
    truth = np.zeros((40, 20, 3), int)
    truth[10:20, 5:10, 1] = 1
    affine = np.diag([-0.5, -2.0, 3.0, 1.0])  # 20 mm left-right, 40 mm front-back
    draw_case(volume, truth, truth, tmp_path / "x.png", title="x", spacing_mm=(0.5, 2.0, 3.0), affine=affine)
    height, width = drawn(tmp_path / "x.png").shape[:2]
    assert height / width == pytest.approx(2.0, abs=0.02)
