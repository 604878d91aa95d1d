"""What several sites of a dataset show side by side, planted between two good folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sitelora.cli import main
from sitelora.comparison.own_data import own_setup
from sitelora.data.check import check_folder, format_check
from sitelora.data.errors import SiteDataError
from sitelora.data.phantom.make import TINY, make_phantom

FIRST, LAST = "case-000", "case-003"
"""The first training case of a tiny phantom, and its test case."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    make_phantom(root, size=TINY, sites=["site-1", "site-4"])
    return root


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "root")


def give(root: Path, case: str, other: str, change: Callable[[np.ndarray], Any] = lambda values: values) -> None:
    """Put a case of site-1 in place of one of site-4, its intensities changed."""
    one, two = root / "prostate" / "site-1", root / "prostate" / "site-4"
    shutil.copy(one / f"labels/{case}.nii.gz", two / f"labels/{other}.nii.gz")
    image = nib.load(one / f"images/{case}.nii.gz")
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), two / f"images/{other}.nii.gz")
    label = nib.load(two / f"labels/{other}.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), image.affine), two / f"labels/{other}.nii.gz")


def name_patients(root: Path, site: str, patient: str) -> None:
    file = root / "prostate" / site / "dataset.json"
    told = json.loads(file.read_text())
    for split in ("training", "validation", "test"):
        for number, entry in enumerate(told[split]):
            entry["patient"] = patient.format(split=split, number=number)
    file.write_text(json.dumps(told))


@pytest.mark.parametrize(
    "change",
    [lambda values: values, lambda values: (values / 1000).astype(np.float32)],
    ids=["as it is", "in thousandths"],
)
def test_an_image_that_one_site_trains_on_and_another_tests_is_an_error_at_both(
    root: Path, change: Callable[[np.ndarray], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    give(root, FIRST, LAST, change)
    one, four = check_folder(root / "prostate")
    (problem,) = one.errors
    assert problem.file == f"images/{FIRST}.nii.gz"
    assert f"here (training) and elsewhere: images/{LAST}.nii.gz (test) at site-4" in problem.found
    (problem,) = four.errors
    assert f"here (test) and elsewhere: images/{FIRST}.nii.gz (training) at site-1" in problem.found
    assert main(["check", str(root / "prostate")]) == 1
    assert "0 of 2 sites are fit for training; mend site-1, site-4" in capsys.readouterr().out
    assert main(["check", str(root / "prostate" / "site-1")]) == 0


def test_an_image_in_one_split_of_two_sites_is_a_warning_and_blank_ones_are_no_images(root: Path) -> None:
    give(root, FIRST, FIRST)
    for site in ("site-1", "site-4"):
        file = root / "prostate" / site / "images" / f"{LAST if site == 'site-1' else 'case-002'}.nii.gz"
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), file)
    for result in check_folder(root / "prostate"):
        assert not result.errors, format_check(result)
        assert ["here (training) and elsewhere" in one.found for one in result.warnings].count(True) == 1


def test_patients_of_one_name_are_told_where_they_share_an_image_and_not_else(root: Path) -> None:
    for site in ("site-1", "site-4"):
        name_patients(root, site, "{split}-{number}")
    assert [result.problems for result in check_folder(root / "prostate")] == [(), ()]
    give(root, FIRST, FIRST)
    for result, other in zip(check_folder(root / "prostate"), ("site-4", "site-1"), strict=True):
        (told,) = [one.found for one in result.warnings if "patient" in one.found]
        assert told == f"patient 'training-0' here and at {other}, with the same image"


def test_a_comparison_of_sites_that_share_images_does_not_begin(root: Path) -> None:
    own_setup("prostate", ("site-1", "site-4"), root)
    give(root, FIRST, LAST)
    with pytest.raises(SiteDataError, match=r"(?s)the same image here \(training\).*\(test\) at site-4.*here \(test\)"):
        own_setup("prostate", ("site-1", "site-4"), root)
