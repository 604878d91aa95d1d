import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from sitelora.tasks.masks.metrics import case_metrics

PROSTATE = {1: "prostate"}


def box(shape, *slices, value=1):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[slices] = value
    return mask


def ball(shape, centre, radius):
    grid = np.indices(shape)
    return (sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2).astype(np.uint8)


def reference_hd95(one, two, spacing):
    """HD95 by brute force: all pairs of surface voxels (those with a background neighbour across a face)."""

    def surface(mask):
        padded = np.pad(mask.astype(bool), 1)
        inside = padded.copy()
        for axis in range(mask.ndim):
            inside &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        return np.argwhere(padded & ~inside) * np.asarray(spacing)

    distances = cdist(surface(one), surface(two))
    return max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))


def test_identical_masks_are_perfect():
    mask = ball((24, 24, 10), (12, 12, 5), 4)
    scores = case_metrics(mask, mask, labels=PROSTATE, spacing_mm=(0.6, 0.6, 3.0))
    assert scores == {"prostate": {"dice": 1.0, "hd95_mm": 0.0, "nsd": 1.0}}


def test_dice_of_half_overlapping_boxes():
    one = box((20, 20), slice(0, 10), slice(0, 10))
    two = box((20, 20), slice(5, 15), slice(0, 10))
    assert case_metrics(one, two, labels=PROSTATE, spacing_mm=None)["prostate"]["dice"] == pytest.approx(0.5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 3.0), (0.7, 1.3, 2.0)])
def test_hd95_equals_brute_force_on_all_pairs_of_surface_voxels(spacing):
    one, two = ball((26, 26, 12), (12, 11, 6), 4), ball((26, 26, 12), (14, 12, 5), 5)
    scores = case_metrics(one, two, labels=PROSTATE, spacing_mm=spacing)
    assert scores["prostate"]["hd95_mm"] == pytest.approx(reference_hd95(one, two, spacing), rel=1e-5)


def test_hd95_of_pictures_is_in_pixels_and_equals_brute_force():
    one, two = ball((60, 60), (30, 30), 9), ball((60, 60), (34, 27), 12)
    scores = case_metrics(one, two, labels=PROSTATE, spacing_mm=None)["prostate"]
    assert set(scores) == {"dice", "hd95_px", "nsd"}
    assert scores["hd95_px"] == pytest.approx(reference_hd95(one, two, (1.0, 1.0)), rel=1e-5)


def test_a_shift_by_one_slice_is_a_shift_by_its_thickness_and_nsd_weighs_area():
    spacing = (0.5, 0.5, 3.0)
    truth = box((100, 90, 24), slice(10, 90), slice(10, 80), slice(5, 18))
    scores = case_metrics(np.roll(truth, 1, axis=2), truth, labels=PROSTATE, spacing_mm=spacing)["prostate"]
    assert scores["hd95_mm"] == pytest.approx(3.0)
    sides, caps = (
        2 * (40 + 35) * 39.0,
        2 * 40 * 35.0,
    )  # mm^2; a cap lies 3 mm off, the side keeps all but a rim
    assert scores["nsd"] == pytest.approx(sides / (sides + caps), abs=0.03)


def test_nsd_falls_with_the_tolerance():
    one, two = ball((60, 60), (30, 30), 12), ball((60, 60), (34, 30), 12)
    nsd = [
        case_metrics(one, two, labels=PROSTATE, spacing_mm=None, nsd_tolerance=t)["prostate"]["nsd"]
        for t in (0.5, 2.0, 5.0)
    ]
    assert nsd[0] < nsd[1] < nsd[2] == 1.0


@pytest.mark.parametrize(("empty_prediction", "empty_truth", "value"), [(1, 1, 1.0), (1, 0, 0.0), (0, 1, 0.0)])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 4)])
def test_empty_masks(shape, empty_prediction, empty_truth, value):
    full, empty = np.ones(shape, np.uint8), np.zeros(shape, np.uint8)
    scores = case_metrics(
        empty if empty_prediction else full,
        empty if empty_truth else full,
        labels=PROSTATE,
        spacing_mm=(1.0,) * len(shape),
    )
    assert scores["prostate"] == {"dice": value, "hd95_mm": None, "nsd": value}


def test_metrics_are_symmetric_and_do_not_depend_on_where_the_mask_lies():
    one, two = ball((40, 40, 14), (12, 12, 6), 5), ball((40, 40, 14), (13, 14, 7), 4)
    spacing = (0.6, 0.6, 3.0)
    scores = case_metrics(one, two, labels=PROSTATE, spacing_mm=spacing)["prostate"]
    swapped = case_metrics(two, one, labels=PROSTATE, spacing_mm=spacing)["prostate"]
    moved = case_metrics(
        np.roll(one, (9, 15), (0, 1)), np.roll(two, (9, 15), (0, 1)), labels=PROSTATE, spacing_mm=spacing
    )["prostate"]
    for name, value in scores.items():
        assert swapped[name] == pytest.approx(value, rel=1e-5)
        assert moved[name] == pytest.approx(value, rel=1e-5)


def test_a_mask_that_touches_the_border_is_scored_like_one_inside():
    inside = ball((30, 30), (15, 15), 6), ball((30, 30), (16, 15), 6)
    at_border = [mask[9:, 9:] for mask in inside]
    far = case_metrics(*inside, labels=PROSTATE, spacing_mm=(1.0, 1.0))["prostate"]
    near = case_metrics(*at_border, labels=PROSTATE, spacing_mm=(1.0, 1.0))["prostate"]
    assert near == pytest.approx(far)


def test_several_labels_are_scored_apart_and_background_is_not():
    truth = box((30, 30), slice(2, 10), slice(2, 10)) + box((30, 30), slice(15, 25), slice(15, 25), value=2)
    prediction = np.where(truth == 2, 0, truth)
    scores = case_metrics(prediction, truth, labels={0: "background", 1: "kidney", 2: "tumour"}, spacing_mm=None)
    assert list(scores) == ["kidney", "tumour"]
    assert scores["kidney"]["dice"] == 1.0
    assert scores["tumour"] == {"dice": 0.0, "hd95_px": None, "nsd": 0.0}


def test_a_volume_of_one_slice_is_a_picture():
    one, two = ball((40, 40), (20, 20), 8), ball((40, 40), (22, 20), 8)
    as_picture = case_metrics(one, two, labels=PROSTATE, spacing_mm=(0.5, 0.5))
    as_volume = case_metrics(one[..., None], two[..., None], labels=PROSTATE, spacing_mm=(0.5, 0.5, 3.0))
    assert as_volume == as_picture


def test_no_value_is_nan():
    rng = np.random.default_rng(0)
    for _ in range(5):
        one, two = (rng.integers(0, 3, (12, 12, 4)) for _ in range(2))
        for values in case_metrics(one, two, labels={1: "a", 2: "b"}, spacing_mm=(1.0, 1.0, 2.0)).values():
            assert all(value is not None and math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prediction": np.zeros((8, 9), int)}, ["(8, 9)", "(8, 8)", "[H, W]"]),
        ({"prediction": np.zeros((8, 8), float)}, ["prediction", "float64", "argmax"]),
        ({"truth": np.full((8, 8), 7)}, ["truth", "[7]", "[1]"]),
        ({"spacing_mm": (1.0, 1.0, 1.0)}, ["[1.0, 1.0, 1.0]", "2 axes"]),
        ({"spacing_mm": (1.0, 0.0)}, ["[1.0, 0.0]", "positive"]),
    ],
)
def test_bad_input_is_refused_with_what_was_found_and_expected(change, words):
    arguments = {
        "prediction": np.zeros((8, 8), int),
        "truth": np.zeros((8, 8), int),
        "spacing_mm": None,
    } | change
    with pytest.raises(ValueError, match="expected") as error:
        case_metrics(arguments.pop("prediction"), arguments.pop("truth"), labels=PROSTATE, **arguments)
    assert all(word in str(error.value) for word in words)
