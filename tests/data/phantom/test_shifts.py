"""The phantom of two knobs: each acts alone, nothing else moves, and the men are the same in all settings."""

import hashlib
import itertools
import json

import numpy as np
import pytest

from sitelora.data.check import check_site_folder
from sitelora.data.phantom.shifts import SITES, Shifts, ShiftsSize, draw_case, make_shifts
from sitelora.data.site_folder import SiteDataError, SiteFolder
from sitelora.federation.bundle_config import data_needs
from sitelora.settings import read_settings
from vector_units import WITHOUT, printed_without

TINY = ShiftsSize(training=2, validation=1, test=1, matrix=32)
ALIKE = Shifts(appearance=0, supervision=0)
SHA256 = "f2a910265d3abdbe1e9315a6aaae6fbbed2b77613c4f165bc39f66edb33c5173"
DRAW = """
import hashlib
from sitelora.data.phantom.shifts import SITES, Shifts, ShiftsSize, draw_case
told = hashlib.sha256()
for site in SITES:
    for part in draw_case(site, 1, shifts=Shifts(), size=ShiftsSize(matrix=48)):
        told.update(part.tobytes())
print(told.hexdigest())
"""


def far(appearance: float, supervision: float) -> Shifts:
    return Shifts(appearance=appearance, supervision=supervision)


@pytest.mark.parametrize("site", SITES)
def test_a_knob_moves_what_it_is_called_and_nothing_else(site: str) -> None:
    image, label = draw_case(site, 0, shifts=ALIKE)
    look_image, look_label = draw_case(site, 0, shifts=far(2, 0))
    habit_image, habit_label = draw_case(site, 0, shifts=far(0, 2))
    assert np.array_equal(look_label, label)
    assert np.array_equal(habit_image, image)
    assert not np.array_equal(habit_label, label)
    assert np.array_equal(look_image, image) == (site == "site-1")  # which images as all do where all are alike


def test_half_way_lies_between() -> None:
    for site in SITES:
        areas = [int(draw_case(site, 2, shifts=far(0, knob))[1].sum()) for knob in (0, 1, 2)]
        assert areas == sorted(areas) or areas == sorted(areas, reverse=True)
        assert len(set(areas)) == 3


def test_no_percentile_scaling_undoes_the_looks() -> None:
    """Of the grey levels of tissues: sites are not monotone maps of each other where the knob is at its end."""
    ranks = {}
    for site in SITES:
        inside, ring = [], []
        for case in range(4):
            image, label = (part.astype(float) for part in draw_case(site, case, shifts=far(2, 0)))
            inside.append(image[label > 0].mean())
            ring.append(image[label == 0].mean())
        ranks[site] = np.mean(inside) > np.mean(ring)
    assert set(ranks.values()) == {True, False}


def test_every_case_is_another_man_and_the_same_in_every_setting() -> None:
    labels = {(s, c): draw_case(s, c, shifts=ALIKE, size=TINY)[1].tobytes() for s in SITES for c in range(3)}
    assert len(set(labels.values())) == len(labels)
    for (site, case), drawn in itertools.islice(labels.items(), 4):
        assert draw_case(site, case, shifts=far(1.5, 0), size=TINY)[1].tobytes() == drawn
    assert draw_case("site-1", 0, shifts=ALIKE, size=TINY, seed=1)[1].tobytes() != labels["site-1", 0]


def test_the_front_is_above_and_the_right_to_the_left() -> None:
    """Where the front is cut the mask's upper edge falls, where the right is cut its left one does."""
    for site, axis in (("site-5", 0), ("site-6", 1)):
        whole, cut = (np.nonzero(draw_case(site, 0, shifts=far(0, knob))[1])[1 - axis] for knob in (0, 2))
        assert cut.max() == whole.max()
        assert cut.min() > whole.min() + 3


def test_site_folders_pass_the_check_and_say_how_they_were_drawn(tmp_path) -> None:
    dataset = make_shifts(tmp_path, shifts=far(1, 2), size=TINY)
    run = read_settings("iat_segmentation", {"pictures": True, "image_size": 32})
    needs = data_needs(run.bundle, run.parser())
    for site in SITES:
        folder = SiteFolder.read(dataset / site)
        assert folder.case_counts() == {"training": 2, "validation": 1, "test": 1}
        assert check_site_folder(folder.path, needs=needs).problems == ()
    source = json.loads((dataset / "site-3" / "dataset.json").read_text())["source"]
    assert (source["appearance"], source["supervision"]) == (1, 2)
    with pytest.raises(SiteDataError, match="something else"):
        make_shifts(tmp_path, shifts=far(2, 2), size=TINY)


@pytest.mark.parametrize(("name", "value"), [("appearance", -0.1), ("supervision", 2.5), ("appearance", float("nan"))])
def test_a_knob_beyond_its_ends_is_refused(name: str, value: float) -> None:
    with pytest.raises(SiteDataError, match=f"{name} is {value}, expected 0 to 2"):
        Shifts(**{name: value})


def drawn_here() -> str:
    told = hashlib.sha256()
    for site in SITES:
        for part in draw_case(site, 1, shifts=Shifts(), size=ShiftsSize(matrix=48)):
            told.update(part.tobytes())
    return told.hexdigest()


def test_the_pixels_are_those_that_were_committed() -> None:
    assert drawn_here() == SHA256


@pytest.mark.parametrize("without", WITHOUT)
def test_other_vector_units_draw_the_same_pixels(without: str) -> None:
    assert printed_without(without, DRAW) == drawn_here()
