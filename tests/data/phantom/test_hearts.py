"""The cine phantom: hearts contract as their group says, vendors differ in looks, bytes are the same anywhere."""

import gzip
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.phantom.arithmetic import Draws
from sitelora.data.phantom.heart import ANGLES, GROUPS, Heart, Radii, angle_of, directions, outlines
from sitelora.data.phantom.heart_make import SITES, TINY_CINE, CineSize, draw_heart, draw_patient, make_cine
from sitelora.data.phantom.heart_vendors import VENDORS, any_vendor, place_stack
from sitelora.data.site_folder import SiteDataError, SiteFolder
from vector_units import WITHOUT, printed_without

ALONG_MM = np.arange(0.0, 90.0, 2.0)
SHA256 = "688ca9874b1be8ff25096d2a471852b76896016e22172cb25f7608791828bf65"
DRAW = """
import hashlib
from sitelora.data.phantom.heart_make import SITES, CineSize, draw_patient
told = hashlib.sha256()
for site in SITES:
    image, affine, _ = draw_patient(site, 3, size=CineSize(matrix=48, slices=5))
    told.update(image.tobytes() + affine.tobytes())
print(told.hexdigest())
"""


def areas_mm2(radii: np.ndarray) -> np.ndarray:
    """Area within outlines ``[phases, slices, ANGLES + 1]``, by triangles."""
    x, y = directions()
    sines = np.abs(x[:-1] * y[1:] - x[1:] * y[:-1])
    return (0.5 * sines * radii[..., :-1] * radii[..., 1:]).sum(-1)


def fractions(group: str, case: int) -> dict[str, float]:
    """Return what a cardiologist measures of one heart."""
    heart = Heart.draw(Draws(case), group)
    radii: Radii = outlines(heart, ALONG_MM)
    left = areas_mm2(radii.cavity).sum(1)
    right = (areas_mm2(radii.right) - areas_mm2(radii.wall)).sum(1)
    middle = ALONG_MM.searchsorted(30.0)
    wall = (radii.wall - radii.cavity)[:, middle]
    return {
        "left_ml": left[0] * 2.0 / 1000,
        "right_ml": right[0] * 2.0 / 1000,
        "ejected": 1 - left[1] / left[0],
        "right_ejected": 1 - right[1] / right[0],
        "thickest_mm": wall[0].max(),
        "stillest": (1 - radii.cavity[1, middle] / radii.cavity[0, middle]).min(),
    }


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, np.ndarray]]:
    found = {group: [fractions(group, case) for case in range(40)] for group in GROUPS}
    return {g: {name: np.array([one[name] for one in all_]) for name in all_[0]} for g, all_ in found.items()}


def test_groups_differ_in_what_a_cardiologist_measures(measured: dict[str, dict[str, np.ndarray]]) -> None:
    middle = {group: {name: np.median(values) for name, values in found.items()} for group, found in measured.items()}
    normal = middle["NOR"]
    assert 0.5 < normal["ejected"] < 0.72
    assert 90 < normal["left_ml"] < 170
    assert normal["thickest_mm"] < 12
    assert middle["DCM"]["ejected"] < 0.45
    assert middle["DCM"]["left_ml"] > 1.3 * normal["left_ml"]
    assert middle["HCM"]["thickest_mm"] > 13
    assert middle["HCM"]["ejected"] > normal["ejected"]
    assert middle["MINF"]["stillest"] < 0.1 < 0.2 < normal["stillest"]
    assert middle["RV"]["right_ml"] > 1.25 * normal["right_ml"]
    assert middle["RV"]["right_ejected"] < 0.75 * normal["right_ejected"]
    assert middle["RV"]["ejected"] == pytest.approx(normal["ejected"], abs=0.03)


def test_no_single_size_tells_disease(measured: dict[str, dict[str, np.ndarray]]) -> None:
    """The best threshold on any one of them leaves a tenth and more of the balanced accuracy to be found."""
    best = {}
    for name in measured["NOR"]:
        normal, ill = measured["NOR"][name], np.concatenate([measured[g][name] for g in GROUPS[1:]])
        for cut in np.concatenate([normal, ill]):
            above = ((ill > cut).mean() + (normal <= cut).mean()) / 2
            best[name] = max(best.get(name, 0.0), above, 1 - above)
    assert max(best.values()) < 0.9, best


@pytest.mark.parametrize("group", GROUPS)
def test_muscle_keeps_its_volume_and_outlines_stay_in_order(group: str) -> None:
    for case in range(10):
        radii = outlines(Heart.draw(Draws(case), group), ALONG_MM)
        assert radii.cavity.shape == (2, len(ALONG_MM), ANGLES + 1)
        assert np.allclose(radii.cavity[..., 0], radii.cavity[..., -1])
        assert (radii.cavity >= 0).all()
        assert (radii.wall >= radii.cavity).all()
        assert (radii.right >= radii.wall).all()
        assert (radii.outside >= radii.right).all()
        muscle = (areas_mm2(radii.wall) - areas_mm2(radii.cavity)).sum(1)
        assert muscle[1] == pytest.approx(muscle[0], rel=0.12)


def test_an_angle_of_the_square_grows_once_around() -> None:
    x, y = directions()
    assert np.allclose(angle_of(x[:-1], y[:-1]), np.arange(ANGLES) * 4 / ANGLES)
    assert np.allclose(x * x + y * y, 1)
    assert (x[ANGLES // 4], y[ANGLES // 4]) == pytest.approx((0, 1))
    assert (x[ANGLES // 2], y[ANGLES // 2]) == pytest.approx((-1, 0))


def test_the_patient_follows_from_seed_and_case_and_the_looks_from_the_vendor() -> None:
    heart = Heart.draw(Draws(1), "DCM")
    drawn = {site: draw_heart(heart, vendor, Draws(2), matrix=48, slices=5) for site, vendor in VENDORS.items()}
    again, _ = draw_heart(heart, VENDORS["vendor-a"], Draws(2), matrix=48, slices=5)
    assert np.array_equal(again, drawn["vendor-a"][0])
    means = [image.mean() for image, _ in drawn.values()]
    assert max(means) > 1.5 * min(means)
    assert len({tuple(np.round(np.linalg.norm(affine[:3, :3], axis=0), 2)) for _, affine in drawn.values()}) == 3
    first = draw_patient("vendor-a", 0, size=TINY_CINE)[0]
    for other in (draw_patient("vendor-a", 2, size=TINY_CINE), draw_patient("vendor-a", 0, seed=1, size=TINY_CINE)):
        assert not np.array_equal(first, other[0])


def test_a_heart_moves_and_its_surroundings_do_not() -> None:
    image, _, _ = draw_patient("vendor-a", 0)
    assert image.shape == (96, 96, 8, 2)
    assert image.dtype == np.int16
    change = np.abs(image[..., 0].astype(float) - image[..., 1]).mean(2)
    rim = np.concatenate([change[:12].ravel(), change[-12:].ravel()])
    assert change[30:66, 30:66].mean() > 2 * rim.mean()


@pytest.mark.parametrize("site", SITES)
def test_the_affine_is_the_stacks(site: str) -> None:
    vendor = VENDORS[site]
    stack = place_stack(vendor, Draws(3))
    steps = np.linalg.norm(stack.affine[:3, :3], axis=0)
    assert np.allclose(steps, (vendor.spacing_mm, vendor.spacing_mm, vendor.slice_mm), rtol=1e-4)
    axes = stack.affine[:3, :3] / steps
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    towards_apex = axes[:, 2] if not vendor.apex_first else -axes[:, 2]
    assert towards_apex @ (-0.638, 0.548, -0.541) > 0.999
    assert (np.diff(stack.along_mm) < 0).all() == vendor.apex_first
    i, j = np.unravel_index((stack.x_mm**2 + stack.y_mm**2).argmin(), stack.x_mm.shape)
    at = stack.affine @ (i, j, 0, 1)
    assert np.linalg.norm(at[:3] - np.array((-0.638, 0.548, -0.541)) * stack.along_mm[0]) < 1.5 * vendor.spacing_mm


def test_any_vendor_draws_as_many_looks_as_asked() -> None:
    images = [
        draw_heart(Heart.draw(Draws(n), "NOR"), any_vendor(Draws(n)), Draws(n), matrix=32, slices=4)[0] for n in (1, 2)
    ]
    assert images[0].shape == images[1].shape == (32, 32, 4, 2)
    assert abs(images[0].mean() / images[1].mean() - 1) > 0.05


def test_site_folders_follow_the_contract(tmp_path: Path) -> None:
    dataset = make_cine(tmp_path, size=CineSize(training=8, validation=2, test=2, matrix=32, slices=4))
    shares = {}
    for site in SITES:
        folder = SiteFolder.read(dataset / site)
        assert folder.case_counts() == {"training": 8, "validation": 2, "test": 2}
        assert folder.labels == {0: "normal", 1: "disease"}
        cases = folder.cases("training")
        assert all(case["class"] == int(case["group"] != "NOR") for case in cases)
        shares[site] = sum(case["class"] for case in cases) / 8
        assert nib.load(cases[0]["image"]).shape == (32, 32, 4, 2)
        assert not (dataset / site / "labels").exists()
    assert shares == {"vendor-a": 0.625, "vendor-b": 0.625, "vendor-c": 0.375}


def test_unknown_sites_groups_and_impossible_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteDataError, match="vendor-d"):
        make_cine(tmp_path, sites=["vendor-d"])
    with pytest.raises(SiteDataError, match="at least"):
        make_cine(tmp_path, size=CineSize(training=0))
    with pytest.raises(ValueError, match="HFPEF"):
        Heart.draw(Draws(0), "HFPEF")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("without", WITHOUT)
def test_other_vector_units_draw_the_same_voxels(without: str) -> None:
    here = hashlib.sha256()
    for site in SITES:
        image, affine, _ = draw_patient(site, 3, size=CineSize(matrix=48, slices=5))
        here.update(image.tobytes() + affine.tobytes())
    assert printed_without(without, DRAW) == here.hexdigest()


def test_the_files_are_those_that_were_committed(tmp_path: Path) -> None:
    """Unpacked, since another zlib packs otherwise."""
    told = hashlib.sha256()
    for file in sorted(make_cine(tmp_path, size=TINY_CINE).glob("*/images/*.nii.gz")):
        told.update(f"{file.parent.parent.name}/{file.name}".encode() + gzip.decompress(file.read_bytes()))
    assert told.hexdigest() == SHA256
