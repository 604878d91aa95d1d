"""Fed-KiTS19 from small files in the challenge's layout: FLamby's sites and test cases, the paper's windows."""

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.check import check_folder
from sitelora.data.prepare import prepare
from sitelora.data.public import kits19
from sitelora.data.site_folder import SiteDataError, SiteFolder

COUNTS = {"site-1": (9, 3), "site-2": (11, 3), "site-3": (9, 3), "site-4": (9, 3), "site-5": (12, 4), "site-6": (24, 6)}
SITE_4_TEST = {"case_00140", "case_00159", "case_00188"}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """All 210 cases; CT is stored with the slices first, as the challenge stores it."""
    root = tmp_path_factory.mktemp("kits19") / "data"
    affine = np.array([[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
    image = np.linspace(-1000, 1000, 4 * 6 * 6).reshape(4, 6, 6).astype(np.float32)
    mask = np.zeros((4, 6, 6), np.uint8)
    mask[1:3, 1:4, 1:4], mask[2, 2, 2] = 1, 2
    for number in range(210):
        case = root / f"case_{number:05d}"
        case.mkdir(parents=True)
        noise = np.random.default_rng(number).normal(0, 30, image.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(image + noise, affine), case / "imaging.nii.gz")
        nib.save(nib.Nifti1Image(mask, affine), case / "segmentation.nii.gz")
    return root.parent


def patients(folder, *splits):
    return {case["patient"] for split in splits for case in folder.cases(split)}


def test_sites_and_test_cases_are_flambys(release, tmp_path):
    paths = prepare("kits19", source=release, out=tmp_path)
    assert paths == [tmp_path / "kits19" / f"site-{n}" for n in range(1, 7)]
    assert [result.problems for result in check_folder(tmp_path / "kits19")] == [()] * 6
    folders = {path.name: SiteFolder.read(path) for path in paths}
    for site, folder in folders.items():
        counts = (len(patients(folder, "training", "validation")), len(patients(folder, "test")))
        assert counts == COUNTS[site]
        assert folder.labels == {0: "background", 1: "kidney", 2: "tumour"}
    assert patients(folders["site-4"], "test") == SITE_4_TEST
    every = [patients(folder, "training", "validation", "test") for folder in folders.values()]
    assert len(set().union(*every)) == sum(map(len, every)) == 96


def test_intensities_are_clipped_to_the_sites_window_and_the_geometry_stays(release, tmp_path):
    path = prepare("kits19", source=release / "data", out=tmp_path, sites=["site-3"])[0]
    case = SiteFolder.read(path).cases("test")[0]
    image, label = nib.load(case["image"]), nib.load(case["label"])
    original = nib.load(release / "data" / case["patient"] / "imaging.nii.gz")
    assert (image.get_fdata().min(), image.get_fdata().max()) == (-89, 325)
    np.testing.assert_array_equal(image.get_fdata(), np.clip(original.get_fdata(), -89, 325))
    np.testing.assert_allclose(image.affine, original.affine, atol=1e-6)
    assert set(np.unique(np.asarray(label.dataobj))) == {0, 1, 2}


def test_a_missing_case_is_named_before_anything_is_written(release, tmp_path):
    few = tmp_path / "few"
    (few / "case_00053").mkdir(parents=True)
    for name in ("imaging.nii.gz", "segmentation.nii.gz"):
        (few / "case_00053" / name).write_bytes((release / "data" / "case_00053" / name).read_bytes())
    with pytest.raises(SiteDataError, match=r"22 missing file\(s\) that FLamby's split names: case_00067/imaging"):
        prepare("kits19", source=few, out=tmp_path / "out", sites=["site-4"])
    assert not (tmp_path / "out").exists()


def test_an_unknown_site_is_refused(release, tmp_path):
    with pytest.raises(SiteDataError, match="found site\\(s\\) A, expected some of site-1"):
        kits19.convert(release, tmp_path, sites=["A"])
