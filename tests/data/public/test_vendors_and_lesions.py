"""M&Ms, M&Ms-2 and Fed-ISIC2019: small files in their public layouts."""

import csv
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from sitelora.data.check import check_folder
from sitelora.data.phantom.arithmetic import Draws
from sitelora.data.phantom.heart_vendors import VENDORS, place_stack
from sitelora.data.prepare import prepare
from sitelora.data.public import isic2019, mnms
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder

OBLIQUE = place_stack(VENDORS["vendor-a"], Draws(0)).affine


def write_table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def films(root, count=40):
    """M&Ms: films ``[X, Y, Z, t]`` in three folders, one table, one patient of it without a film."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        code = f"A{number:02d}B"
        place = root / ("Training/Labeled", "Training/Unlabeled", "Validation", "Testing")[number % 4] / code
        place.mkdir(parents=True)
        film = rng.integers(0, 900, (8, 9, 5, 4)).astype(np.int16)
        nib.save(nib.Nifti1Image(film, OBLIQUE), place / f"{code}_sa.nii.gz")
        nib.save(nib.Nifti1Image(film // 300, OBLIQUE), place / f"{code}_sa_gt.nii.gz")
        vendor = ("Siemens", "Philips", "GE", "Canon")[number // 10 % 4]
        row = {"": number, "External code": code, "VendorName": vendor, "Vendor": "A", "Centre": 1, "ED": 1, "ES": 3}
        rows.append({**row, "Pathology": ("NOR", "HCM")[number % 2]})
    rows.append({**rows[0], "External code": "Z99Z"})
    write_table(root / mnms._TABLE, rows)
    return rows


def phases(root, count=30):
    """M&Ms-2: two phases a patient, a table that ends in empty rows."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(1, count + 1):
        code = f"{number:03d}"
        place = root / "dataset" / code
        place.mkdir(parents=True)
        for phase in ("SA_ED", "SA_ES", "LA_ED"):
            nib.save(
                nib.Nifti1Image(rng.integers(0, 900, (8, 9, 5)).astype(np.int16), OBLIQUE),
                place / f"{code}_{phase}.nii.gz",
            )
        vendor = ("SIEMENS", "Philips Medical Systems", "GE MEDICAL SYSTEMS")[number % 3]
        disease = ("NOR", "FALL")[number % 2]
        rows.append({"SUBJECT_CODE": number, "DISEASE": disease, "VENDOR": vendor, "SCANNER": "S", "FIELD": 1.5})
    rows.append(dict.fromkeys(rows[0], ""))
    write_table(root / "dataset_information.csv", rows)


def lesions(root, name="train_test_split"):
    """FLamby: a table without ending, JPEG pictures."""
    pictures = root / isic2019._PICTURES
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        image = f"ISIC_{number:07d}"
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(pictures / f"{image}.jpg")
        fold = "test" if number % 6 == 0 else "train"
        rows.append({"image": image, "target": number % 2 * 7, "center": number // 30 * 4, "fold": fold})
    write_table(root / name, [{**row, "fold2": f"{row['fold']}_{row['center']}"} for row in rows])
    return rows


def cases(path):
    folder = SiteFolder.read(path)
    return [(split, case) for split in SPLITS for case in folder.cases(split)]


def test_mnms_takes_two_frames_of_a_film_and_names_whom_it_left_out(tmp_path):
    rows = films(tmp_path / "in")
    paths = prepare("mnms", source=tmp_path / "in", out=tmp_path)
    assert [path.name for path in paths] == ["siemens", "philips", "ge", "canon"]
    assert [result.problems for result in check_folder(tmp_path / "mnms")] == [()] * 4
    table = {row["External code"]: row for row in rows}
    found = [case for path in paths for _, case in cases(path)]
    assert {case["patient"] for case in found} == set(table) - {"Z99Z"}
    for case in found:
        image = nib.load(case["image"])
        (film,) = (tmp_path / "in").rglob(f"{case['patient']}_sa.nii.gz")
        original = np.asarray(nib.load(film).dataobj)
        assert np.array_equal(np.asarray(image.dataobj), original[..., [1, 3]])
        assert np.allclose(image.affine, OBLIQUE, atol=1e-4)
        assert case["class"] == int(table[case["patient"]]["Pathology"] != "NOR")
    assert SiteFolder.read(paths[0]).source["left_out"] == {"Z99Z": "no film"}
    for path in paths:
        counts = Counter((split, case["class"]) for split, case in cases(path))
        assert len(counts) == 6, "both classes in every split"


def test_a_frame_that_a_film_has_not_and_a_vendor_that_is_none(tmp_path):
    rows = films(tmp_path / "in", count=8)
    write_table(tmp_path / "in" / mnms._TABLE, [{**rows[0], "ES": 4}, *rows[1:]])
    with pytest.raises(SiteDataError, match="with frame 4"):
        prepare("mnms", source=tmp_path / "in", out=tmp_path, sites=["siemens"])
    write_table(tmp_path / "in" / mnms._TABLE, [{**rows[0], "VendorName": "Hitachi"}, *rows[1:]])
    with pytest.raises(SiteDataError, match="Hitachi"):
        prepare("mnms", source=tmp_path / "in", out=tmp_path, sites=["siemens"])
    write_table(tmp_path / "in" / mnms._TABLE, [{**rows[0], "ED": "x"}, *rows[1:]])
    with pytest.raises(SiteDataError, match="counted from 0"):
        prepare("mnms", source=tmp_path / "in", out=tmp_path, sites=["siemens"])
    write_table(tmp_path / "in" / mnms._TABLE, rows)
    with pytest.raises(SiteDataError, match="no patient of canon"):
        prepare("mnms", source=tmp_path / "in", out=tmp_path, sites=["canon"])
    assert not list((tmp_path / "mnms").glob("*"))


def test_mnms2_by_vendor_with_the_scanner_beside(tmp_path):
    phases(tmp_path / "in")
    paths = prepare("mnms2", source=tmp_path / "in", out=tmp_path)
    assert [path.name for path in paths] == ["siemens", "philips", "ge"]
    assert [result.problems for result in check_folder(tmp_path / "mnms2")] == [()] * 3
    for path in paths:
        for _, case in cases(path):
            name = case["patient"]
            parts = [nib.load(tmp_path / f"in/dataset/{name}/{name}_SA_{phase}.nii.gz") for phase in ("ED", "ES")]
            expected = np.stack([np.asarray(part.dataobj) for part in parts], -1)
            assert np.array_equal(np.asarray(nib.load(case["image"]).dataobj), expected)
            assert case["scanner"] == "S"
            assert case["group"] == ("NOR", "FALL")[int(name) % 2]
    (tmp_path / "in/dataset/007/007_SA_ES.nii.gz").unlink()
    with pytest.raises(SiteDataError, match="007_SA_ES"):
        prepare("mnms2", source=tmp_path / "in", out=tmp_path / "b")


@pytest.mark.parametrize("name", ["train_test_split", "train_test_folds.csv"])
def test_isic_keeps_flambys_test_pictures(tmp_path, name):
    rows = lesions(tmp_path / "in", name)
    paths = prepare("isic2019", source=tmp_path / "in", out=tmp_path, sites=["bcn", "msk"])
    for path, center in zip(paths, (0, 4), strict=True):
        own = {row["image"]: row for row in rows if row["center"] == center}
        found = {case["patient"].removeprefix("picture-"): (split, case) for split, case in cases(path)}
        assert set(found) == set(own)
        assert {image for image, (split, _) in found.items() if split == "test"} == {
            image for image, row in own.items() if row["fold"] == "test"
        }
        assert Counter(split for split, _ in found.values()) == {"training": 20, "validation": 5, "test": 5}
        for image, (_, case) in found.items():
            assert case["class"] == own[image]["target"]
            assert Image.open(case["image"]).size == (8, 6)
    assert [result.errors for result in check_folder(tmp_path / "isic2019")] == [(), ()]
    with pytest.raises(SiteDataError, match="no picture of rosendahl"):
        prepare("isic2019", source=tmp_path / "in", out=tmp_path, sites=["rosendahl"])


def test_an_isic_table_that_is_none_is_refused(tmp_path):
    rows = lesions(tmp_path / "in")
    write_table(tmp_path / "in" / "train_test_split", [{**rows[0], "target": 8}, *rows[1:]])
    with pytest.raises(SiteDataError, match="a target from 0 to 7"):
        prepare("isic2019", source=tmp_path / "in", out=tmp_path, sites=["bcn"])
    write_table(tmp_path / "in" / "train_test_split", rows)
    (tmp_path / "in" / isic2019._PICTURES / "ISIC_0000003.jpg").write_bytes(b"no picture")
    with pytest.raises(SiteDataError, match="not readable as a picture"):
        prepare("isic2019", source=tmp_path / "in", out=tmp_path, sites=["bcn"])
    assert not (tmp_path / "isic2019" / "bcn").exists()
