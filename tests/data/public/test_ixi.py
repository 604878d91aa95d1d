"""Fed-IXI from small files in both layouts of IXI Tiny: hospitals from the names, FLamby's test patients."""

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.check import check_folder
from sitelora.data.prepare import prepare
from sitelora.data.public import ixi
from sitelora.data.site_folder import SiteDataError, SiteFolder

HOSPITALS = {"guys": "Guys", "hh": "HH", "iop": "IOP"}
RELEASE = {"guys": (2, 16, 17, 19, 20), "hh": (12, 13, 14, 33), "iop": (35, 230, 231)}
TEST = {"guys": {"IXI002", "IXI017"}, "hh": {"IXI012"}, "iop": {"IXI231"}}


def put(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), path)


def fill(root, layout):
    image = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[2:4, 1:4, 1:3] = 1
    for site, numbers in RELEASE.items():
        for number in numbers:
            own = image.copy()
            own[1:, 1:, 1:] += np.random.default_rng(number).normal(0, 9, (5, 4, 3))  # a head of the patient's own
            name = f"IXI{number:03d}-{HOSPITALS[site]}-{number + 800:04d}"
            if layout == "torchio":
                put(root / "image" / f"{name}_image.nii.gz", own)
                put(root / "label" / f"{name}_label.nii.gz", mask)
            else:
                put(root / "IXI_sample" / name / "T1" / f"{name}_image.nii.gz", own)
                put(root / "IXI_sample" / name / "T2" / f"{name}_image.nii.gz", own + 1)
                put(root / "IXI_sample" / name / "label" / f"{name}_label.nii.gz", mask)
    return root


@pytest.mark.parametrize("layout", ["torchio", "flamby"])
def test_hospitals_and_test_patients_are_flambys(tmp_path, layout):
    paths = prepare("ixi", source=fill(tmp_path / "release", layout), out=tmp_path)
    assert paths == [tmp_path / "ixi" / site for site in HOSPITALS]
    assert [result.problems for result in check_folder(tmp_path / "ixi")] == [()] * 3
    for path in paths:
        folder = SiteFolder.read(path)
        found = {split: {case["patient"] for case in folder.cases(split)} for split in folder.splits}
        assert found["test"] == TEST[path.name]
        assert set().union(*found.values()) == {f"IXI{number:03d}" for number in RELEASE[path.name]}
        assert len(found["validation"]) == 1
        case = folder.cases("training")[0]
        assert nib.load(case["image"]).get_fdata()[0, 0, 0] == 0  # T1, not T2


def test_flambys_counts():
    """249/62, 145/36 and 59/15 patients (FLamby's README): the test ones are listed here."""
    assert {site: len(numbers) for site, numbers in ixi.TEST_PATIENTS.items()} == {"guys": 62, "hh": 36, "iop": 15}
    assert len(frozenset().union(*ixi.TEST_PATIENTS.values())) == 62 + 36 + 15


def test_a_missing_mask_and_a_missing_hospital_are_named(tmp_path):
    root = fill(tmp_path / "release", "torchio")
    (root / "label" / "IXI013-HH-0813_label.nii.gz").unlink()
    with pytest.raises(SiteDataError, match=r"IXI013-HH-0813_image\.nii\.gz without counterpart, expected Hammersmith"):
        prepare("ixi", source=root, out=tmp_path / "out")
    for path in root.rglob("*IOP*"):
        path.unlink()
    with pytest.raises(SiteDataError, match="found no case, expected Institute of Psychiatry"):
        prepare("ixi", source=root, out=tmp_path / "out", sites=["iop"])
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_patient_are_refused(tmp_path):
    root = fill(tmp_path / "release", "torchio")
    put(root / "again" / "IXI013-HH-0999_image.nii.gz", np.zeros((2, 2, 2), np.float32))
    with pytest.raises(SiteDataError, match="expected one image of a patient"):
        prepare("ixi", source=root, out=tmp_path / "out", sites=["hh"])
