import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd

from sitelora.data.phantom.anatomy import Grid, Patient, ellipsoid
from sitelora.data.phantom.arithmetic import Draws
from sitelora.data.phantom.make import SITES, TINY, PhantomSize, draw_case, make_phantom
from sitelora.data.phantom.sites import PROFILES, Habit, annotate, place_slices
from sitelora.data.site_folder import SiteDataError, SiteFolder

SMALL = PhantomSize(matrix=64)


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_every_byte_is_the_same_again_at_any_thread_count(tmp_path):
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            make_phantom(tmp_path / str(n), size=TINY, sites=["site-1", "site-4"])
    finally:
        torch.set_num_threads(threads)
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert len(files(tmp_path / "1")) == 2 * (1 + 2 * 4)


def test_a_site_does_not_depend_on_the_other_sites(tmp_path):
    make_phantom(tmp_path / "all", size=TINY)
    make_phantom(tmp_path / "one", size=TINY, sites=["site-3"])
    assert files(tmp_path / "all/prostate/site-3") == files(tmp_path / "one/prostate/site-3")


def test_seed_site_and_case_all_change_the_picture():
    first = draw_case("site-1", 0, size=TINY)[0]
    for other in (draw_case("site-1", 1, size=TINY), draw_case("site-1", 0, seed=1, size=TINY)):
        assert not np.array_equal(first, other[0])


def test_site_folders_follow_the_contract(tmp_path):
    dataset = make_phantom(tmp_path, size=TINY)
    assert dataset == tmp_path / "prostate"
    assert sorted(p.name for p in dataset.iterdir()) == list(SITES)
    for site in SITES:
        folder = SiteFolder.read(dataset / site)
        assert folder.case_counts() == {"training": 2, "validation": 1, "test": 1}
        assert folder.hospital.startswith(f"Phantom hospital {site[-1]} (")
        patients = [case["patient"] for split in folder.splits for case in folder.cases(split)]
        assert len(set(patients)) == 4
        for split in folder.splits:
            for case in folder.cases(split):
                image, label = nib.load(case["image"]), nib.load(case["label"])
                assert image.get_data_dtype() == np.int16
                assert label.get_data_dtype() == np.uint8
                assert np.array_equal(image.affine, label.affine)
                assert image.shape == label.shape == (32, 32, 6)
                assert set(np.unique(label.dataobj)) == {0, 1}


def test_existing_sites_are_skipped_and_other_data_refused(tmp_path):
    seen = []
    make_phantom(tmp_path, size=TINY, sites=["site-1"], progress=lambda *step: seen.append(step))
    assert seen == [("site-1", n, 4) for n in (1, 2, 3, 4)]
    make_phantom(tmp_path, size=TINY, sites=["site-1"], progress=lambda *step: pytest.fail("drawn again"))
    with pytest.raises(SiteDataError, match="left as it is"):
        make_phantom(tmp_path, size=TINY, sites=["site-1"], seed=1)


def test_unknown_sites_and_impossible_sizes_are_refused(tmp_path):
    with pytest.raises(SiteDataError, match="site-7"):
        make_phantom(tmp_path, sites=["site-7"])
    with pytest.raises(SiteDataError, match="at least"):
        make_phantom(tmp_path, size=PhantomSize(training=0))
    assert list(tmp_path.iterdir()) == []


def test_appearance_differs_between_sites():
    cases = {site: draw_case(site, 0) for site in SITES}
    spacings = {tuple(np.round(np.linalg.norm(a[:3, :3], axis=0), 3)) for _, _, a in cases.values()}
    assert len(spacings) == 6
    assert all(12 <= image.shape[2] <= 20 for image, _, _ in cases.values())
    codes = {"".join(nib.aff2axcodes(a)) for _, _, a in cases.values()}
    assert {"RAS", "LAS", "LPS", "LPI"} <= codes
    oblique = [site for site, (_, _, a) in cases.items() if np.abs(a[2, 1]) > 0.1]
    assert oblique == ["site-4"]


@pytest.mark.parametrize("site", SITES)
def test_no_intensity_window_is_enough_to_find_the_prostate(site):
    image, label, _ = draw_case(site, 0, size=SMALL)
    edges = np.percentile(image, np.arange(0, 101, 5))
    best = 0.0
    for low in edges:
        for high in edges[edges > low]:
            found = (image >= low) & (image <= high)
            best = max(best, 2 * (found & (label > 0)).sum() / (found.sum() + label.sum()))
    assert 0.01 < label.mean() < 0.12
    assert best < 0.7


def test_organs_vary_between_patients():
    volumes, centres = [], []
    for case in range(8):
        _, label, affine = draw_case("site-1", case, size=SMALL)
        volumes.append(label.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
        centres.append((affine @ np.append(np.argwhere(label).mean(0), 1))[:3])
    assert 10 < min(volumes) < max(volumes) < 70
    assert max(volumes) / min(volumes) > 1.3
    assert np.std(centres, axis=0).min() > 0.5


def capsule(site="site-1", case=0):
    scanner, _ = PROFILES[site]
    rng = Draws(case)
    grid = place_slices(scanner, rng)
    return Patient.draw(rng).prostate(grid.points_mm(), grid.spacing_mm), grid


def test_habits_are_what_they_are_called():
    distance, grid = capsule()
    faithful = annotate(distance, grid, Habit(name="faithful"))
    tight = annotate(distance, grid, Habit(name="tight", margin_mm=-2))
    generous = annotate(distance, grid, Habit(name="generous", margin_mm=2))
    assert np.array_equal(faithful, distance < 0)
    assert (tight <= faithful).all()
    assert (faithful <= generous).all()
    radius = [np.cbrt(m.sum()) for m in (tight, faithful, generous)]
    assert radius[0] < 0.95 * radius[1] < 0.95 * 0.98 * radius[2]

    smooth = annotate(distance, grid, Habit(name="smooth", smoothing_mm=4))
    dice = 2 * (smooth & faithful).sum() / (smooth.sum() + faithful.sum())
    assert 0.8 < dice < 0.999

    height = (grid.points_mm()[2] * np.where(faithful, 1, np.nan)).copy()
    low, high = np.nanmin(height), np.nanmax(height)
    for habit, end in (
        (Habit(name="no apex", skip_apex=0.3), low),
        (Habit(name="no base", skip_base=0.3), high),
    ):
        part = annotate(distance, grid, habit)
        z = grid.points_mm()[2][part > 0]
        assert (part <= faithful).all()
        assert np.abs(z - end).min() > 0.2 * (high - low)


def test_apex_is_the_lower_end_whichever_way_the_slices_run():
    scanner, _ = PROFILES["site-6"]
    assert scanner.axes.endswith("I")
    rng = Draws(0)
    grid = place_slices(scanner, rng)
    distance = Patient.draw(rng).prostate(grid.points_mm(), grid.spacing_mm)
    kept = grid.points_mm()[2][annotate(distance, grid, Habit(name="no apex", skip_apex=0.5)) > 0]
    assert kept.max() > kept.min() >= np.median(grid.points_mm()[2][distance < 0])


def test_ellipsoid_is_a_distance_near_its_surface():
    grid = Grid(affine=np.diag([0.5, 0.5, 0.5, 1.0]), shape=(80, 80, 80))
    points = grid.points_mm()
    distance = ellipsoid(points, (20, 20, 20), (10, 10, 10))
    exact = np.sqrt(((points - 20) ** 2).sum(0)) - 10
    near = np.abs(exact) < 2
    assert np.abs(distance - exact)[near].max() < 0.05


@pytest.mark.parametrize("site", SITES)
def test_monai_brings_every_site_to_the_same_orientation(tmp_path, site):
    make_phantom(tmp_path, size=TINY, sites=[site])
    case = SiteFolder.read(tmp_path / "prostate" / site).cases("training")[0]
    keys = ("image", "label")
    load = Compose([LoadImaged(keys), EnsureChannelFirstd(keys), Orientationd(keys, axcodes="RAS", labels=None)])
    loaded = load(case)
    assert nib.aff2axcodes(loaded["image"].affine.numpy()) == ("R", "A", "S")
    original = nib.load(case["image"])
    values, affine = loaded["image"][0].numpy(), loaded["image"].affine.numpy()
    for index in np.ndindex(4, 4, 3):
        index = tuple(np.array(index) * (9, 7, 2))
        world = affine @ (*index, 1)
        source = np.rint(np.linalg.inv(original.affine) @ world)[:3].astype(int)
        assert values[index] == np.asarray(original.dataobj)[tuple(source)]
    centre = affine @ np.append(np.argwhere(loaded["label"][0].numpy()).mean(0), 1)
    assert np.abs(centre[:3]).max() < 20
