import csv
import shutil

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImaged
from PIL import Image

from sitelora.data.check import check_folder
from sitelora.data.prepare import Converter, converters, prepare
from sitelora.data.public import lungs, prostate
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder

RELEASE = {
    "RUNMC": range(30),
    "BMC": range(30),
    "I2CVB": range(19),
    "UCL": (1, *range(26, 38)),
    "BIDMC": range(12),
    "HK": range(38, 50),
}
PAPER_TEST = {
    "site-1": {3, 8, 12, 15, 18, 26},
    "site-2": {3, 8, 12, 15, 18, 26},
    "site-3": {3, 8, 13, 15},
    "site-4": {1, 32, 34},
    "site-5": {0, 4, 9},
    "site-6": {38, 41, 46},
}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The public set's own layout and counts, with the suffix's case as mixed as there."""
    root = tmp_path_factory.mktemp("release")
    rng = np.random.default_rng(0)
    affine = np.diag([-0.6, -0.6, 3.0, 1.0])
    for hospital, numbers in RELEASE.items():
        (root / hospital).mkdir()
        suffix = "Segmentation" if hospital in ("RUNMC", "BMC") else "segmentation"
        for number in numbers:
            image = rng.integers(0, 900, (8, 8, 4)).astype(np.int16)
            mask = np.zeros((8, 8, 4), np.int16)
            mask[2:6, 2:4], mask[2:6, 4:6] = 1, 2
            nib.save(nib.Nifti1Image(image, affine), root / hospital / f"Case{number:02d}.nii.gz")
            nib.save(nib.Nifti1Image(mask, affine), root / hospital / f"Case{number:02d}_{suffix}.nii.gz")
    return root


def numbers(folder, split):
    return {int(case["patient"].rpartition("-")[2]) for case in folder.cases(split)}


def test_converters_are_found_and_alike():
    found = converters()
    masks = {"cells", "fundus", "histology", "ixi", "kits19", "prostate", "lungs", "nuclei"}
    masks |= {"prostate_phantom", "prostate_shifts_phantom"}
    classes = {"acdc", "cell_types", "cine_phantom", "isic2019", "mnms", "mnms2", "tuberculosis"}
    assert set(found) == masks | classes
    for name, converter in found.items():
        assert all(hasattr(converter, part) for part in Converter.__annotations__)
        assert name == converter.NAME
        assert (converter.LABELS[0] == "background") == (name in masks)
    assert found["prostate"].DATASET == found["prostate_phantom"].DATASET == "prostate"
    assert found["prostate"].LABELS == found["prostate_phantom"].LABELS
    assert found["prostate"].SITES == found["prostate_phantom"].SITES


def test_prostate_set(release, tmp_path):
    paths = prepare("prostate", source=release, out=tmp_path)
    assert paths == [tmp_path / "prostate" / f"site-{n}" for n in range(1, 7)]
    assert [result.problems for result in check_folder(tmp_path / "prostate")] == [()] * 6
    for path, (hospital, cases) in zip(paths, RELEASE.items(), strict=True):
        folder = SiteFolder.read(path)
        assert f"({hospital})" in folder.hospital
        assert numbers(folder, "test") == PAPER_TEST[path.name]
        splits = [numbers(folder, split) for split in SPLITS]
        assert set().union(*splits) == set(cases)
        assert sum(map(len, splits)) == len(cases), "no patient in two splits: validation never comes from test"
        assert 1 <= len(numbers(folder, "validation")) <= 3
        case = folder.cases("training")[0]
        label, image = nib.load(case["label"]), nib.load(case["image"])
        assert set(np.unique(label.dataobj)) == {0, 1}
        assert np.asarray(label.dataobj).sum() == 4 * 4 * 4, "both zones became one organ"
        assert np.array_equal(label.affine, image.affine)
        number = int(case["patient"].rpartition("-")[2])
        assert (path / f"images/case-{number:02d}.nii.gz").read_bytes() == (
            release / hospital / f"Case{number:02d}.nii.gz"
        ).read_bytes()


def test_prostate_is_the_same_again_and_then_skipped(release, tmp_path):
    for out in ("a", "b"):
        prepare("prostate", source=release, out=tmp_path / out, sites=["site-5"])
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / o).rglob("*.*") if p.is_file()} for o in "ab")
    assert first == second
    prepare("prostate", source=release, out=tmp_path / "a", sites=["site-5"], progress=lambda *_: pytest.fail("again"))


def test_the_phantom_does_not_replace_real_data(release, tmp_path):
    prepare("prostate", source=release, out=tmp_path, sites=["site-5"])
    with pytest.raises(SiteDataError, match="left as it is"):
        prepare("prostate_phantom", source=None, out=tmp_path, sites=["site-5"])


def test_any_number_of_cases(release, tmp_path):
    few = tmp_path / "few"
    for number in (38, 39, 47):
        (few / "hk").mkdir(parents=True, exist_ok=True)
        for path in (release / "HK").glob(f"Case{number}*"):
            shutil.copy(path, few / "hk")
    (path,) = prepare("prostate", source=few, out=tmp_path / "out", sites=["site-6"])
    assert SiteFolder.read(path).case_counts() == {"training": 1, "validation": 1, "test": 1}


def test_what_the_prostate_release_may_lack(release, tmp_path):
    with pytest.raises(SiteDataError, match=r"no source.*RUNMC, BMC.*CaseNN_segmentation"):
        prepare("prostate", source=None, out=tmp_path)
    with pytest.raises(SiteDataError, match="no folder"):
        prepare("prostate", source=tmp_path / "absent", out=tmp_path)
    with pytest.raises(SiteDataError, match=r"site-9.*site-1"):
        prepare("prostate", source=release, out=tmp_path, sites=["site-9"])
    part = tmp_path / "part"
    shutil.copytree(release / "HK", part / "HK")
    with pytest.raises(SiteDataError, match=r"lacks RUNMC.*found: HK"):
        prepare("prostate", source=part, out=tmp_path / "out")
    (part / "HK/Case40_segmentation.nii.gz").unlink()
    with pytest.raises(SiteDataError, match=r"Case40.nii.gz without counterpart"):
        prepare("prostate", source=part, out=tmp_path / "out", sites=["site-6"])
    assert not (tmp_path / "out").exists()


def test_prostate_masks_of_other_values_are_refused(release, tmp_path):
    shutil.copytree(release / "HK", tmp_path / "HK")
    mask = tmp_path / "HK/Case40_segmentation.nii.gz"
    nib.save(nib.Nifti1Image(np.full((8, 8, 4), 3, np.int16), np.eye(4)), mask)
    with pytest.raises(SiteDataError, match=r"Case40_segmentation.*value\(s\) 3"):
        prepare("prostate", source=tmp_path, out=tmp_path / "out", sites=["site-6"])
    assert list((tmp_path / "out").rglob("*.*")) == [], "nothing is left of a site that failed"


def test_conversion_does_not_hide_a_mask_that_lies_elsewhere(release, tmp_path):
    shutil.copytree(release / "HK", tmp_path / "HK")
    mask = nib.load(tmp_path / "HK/Case40_segmentation.nii.gz")
    affine = mask.affine.copy()
    affine[2, 3] += 6
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), affine), tmp_path / "HK/Case40_segmentation.nii.gz")
    (path,) = prepare("prostate", source=tmp_path, out=tmp_path / "out", sites=["site-6"])
    (error,) = check_folder(path)[0].errors
    assert "6.00 mm" in error.found
    assert error.case == "case-40"


def xrays(root, site="montgomery", count=40, prefix="MCUCXR"):
    folder = root / site
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for n in range(1, count + 1):
        name = f"{prefix}_{n:04d}_{n % 2}.png"
        Image.fromarray(rng.integers(0, 256, (6, 5), dtype=np.uint8)).save(folder / "images" / name)
        rows.append({"file": name, "tuberculosis": n % 2, "has_mask": int(n % 5 != 0)})
        if n % 5:
            mask = np.zeros((6, 5), np.uint8)
            mask[1:3, 2:4] = 255
            Image.fromarray(mask).save(folder / "masks" / name)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "tuberculosis", "has_mask"])
        writer.writeheader()
        writer.writerows(rows)
    return root


def patients(path):
    folder = SiteFolder.read(path)
    return {case["patient"]: split for split in SPLITS for case in folder.cases(split)}


def test_lungs_takes_images_with_a_mask(tmp_path):
    (path,) = prepare("lungs", source=xrays(tmp_path / "in"), out=tmp_path / "out", sites=["montgomery"])
    assert path == tmp_path / "out/lungs/montgomery"
    folder = SiteFolder.read(path)
    cases = [case for split in SPLITS for case in folder.cases(split)]
    assert len(cases) == 32
    assert {case["patient"] for case in cases} == {f"MCUCXR_{n:04d}" for n in range(1, 41) if n % 5}
    assert all(case["tuberculosis"] == int(case["image"][-5]) for case in cases)
    assert check_folder(path)[0].problems == ()


def test_pictures_and_masks_are_transposed_alike_by_monai(tmp_path):
    (path,) = prepare("lungs", source=xrays(tmp_path / "in"), out=tmp_path / "out", sites=["montgomery"])
    case = SiteFolder.read(path).cases("training")[0]
    loaded = LoadImaged(("image", "label"))(case)
    assert loaded["image"].shape == loaded["label"].shape == (5, 6)
    expected = np.zeros((5, 6))
    expected[2:4, 1:3] = 1
    assert np.array_equal(loaded["label"].numpy(), expected)


def test_a_case_more_moves_no_other(tmp_path):
    (few,) = prepare("lungs", source=xrays(tmp_path / "few", count=20), out=tmp_path / "a", sites=["montgomery"])
    (many,) = prepare("lungs", source=xrays(tmp_path / "many"), out=tmp_path / "b", sites=["montgomery"])
    before, after = patients(few), patients(many)
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)


def test_split_shares():
    splits = [lungs.split_of("shenzhen", f"CHNCXR_{n:04d}") for n in range(2000)]
    for split, share in zip(SPLITS, (0.6, 0.1, 0.3), strict=True):
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.03)


def test_what_the_chest_xrays_may_lack(tmp_path):
    source = xrays(tmp_path / "in", count=6)
    with pytest.raises(SiteDataError, match=r"lacks shenzhen.*found: montgomery"):
        prepare("lungs", source=source, out=tmp_path)
    mask = source / "montgomery/masks/MCUCXR_0001_1.png"
    Image.fromarray(np.full((6, 5), 128, np.uint8)).save(mask)
    with pytest.raises(SiteDataError, match=r"MCUCXR_0001_1.*128.*\[0, 255\]"):
        prepare("lungs", source=source, out=tmp_path, sites=["montgomery"])
    mask.unlink()
    with pytest.raises(SiteDataError, match=r"1 missing file.*masks/MCUCXR_0001_1\.png"):
        prepare("lungs", source=source, out=tmp_path, sites=["montgomery"])
    (source / "montgomery/labels.csv").write_text("name\nx\n")
    with pytest.raises(SiteDataError, match="columns"):
        prepare("lungs", source=source, out=tmp_path, sites=["montgomery"])
    (source / "montgomery/labels.csv").unlink()
    with pytest.raises(SiteDataError, match=r"no labels\.csv"):
        prepare("lungs", source=source, out=tmp_path, sites=["montgomery"])


def test_phantom_by_name(tmp_path):
    (path,) = prepare("prostate_phantom", source=None, out=tmp_path, sites=["site-6"])
    assert path == tmp_path / "prostate/site-6"
    (result,) = check_folder(path)
    assert result.problems == ()
    assert result.case_counts == {"training": 8, "validation": 4, "test": 8}
    with pytest.raises(SiteDataError, match="drawn, not converted"):
        prepare("prostate_phantom", source=tmp_path, out=tmp_path)


def test_unknown_dataset(tmp_path):
    with pytest.raises(SiteDataError, match=r"'liver'.*, prostate_phantom, prostate_shifts_phantom, tuberculosis"):
        prepare("liver", source=None, out=tmp_path)


def test_every_paper_test_case_is_in_the_release():
    assert tuple(PAPER_TEST) == prostate.SITES
    for site, hospital in zip(prostate.SITES, RELEASE, strict=True):
        assert PAPER_TEST[site] <= set(RELEASE[hospital])


@pytest.mark.real_data
def test_real_chest_xrays(real_data, tmp_path):
    paths = prepare("lungs", source=real_data / "chest_xray", out=tmp_path)
    for path in paths:
        (result,) = check_folder(path, labels=lungs.LABELS)
        assert result.problems == ()
        assert min(result.case_counts.values()) > 0
        rows = list(csv.DictReader((real_data / "chest_xray" / path.name / "labels.csv").open()))
        assert sum(result.case_counts.values()) == sum(row["has_mask"] == "1" for row in rows)
        histogram = result.label_histogram
        assert 0.15 < histogram[1] / sum(histogram.values()) < 0.35
