"""A folder with a class per case: what training cannot bear is an error, what a person wants to know is said."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.check import check_site_folder, format_check
from sitelora.data.needs import DataNeeds
from sitelora.data.phantom.heart_make import TINY_CINE, make_cine
from sitelora.data.rules import UnfitFileError, read_image, slices_of
from sitelora.data.site_folder import SPLITS
from sitelora.data.site_reader import SiteReader

NEEDS = DataNeeds(
    bundle="b",
    task="classification",
    truth="class",
    pictures=False,
    classes=2,
    image_size=32,
    slices=4,
    channels=(2,),
    spacing_mm=(5.0, 20.0),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    return make_cine(root, size=TINY_CINE, sites=["vendor-a"]) / "vendor-a"


@pytest.fixture
def site(good, tmp_path):
    return shutil.copytree(good, tmp_path / "vendor-a")


def edit_list(site, change):
    file = site / "dataset.json"
    content = json.loads(file.read_text())
    for split in SPLITS:
        for number, case in enumerate(content[split]):
            change(split, number, case)
    file.write_text(json.dumps(content))


def edit_labels(site, labels):
    file = site / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": labels}))


def edit_image(site, change):
    path = site / "images" / "case-000.nii.gz"
    image = nib.load(path)
    values, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def only(result, severity="error"):
    problems = [problem for problem in result.problems if problem.severity == severity]
    assert len(problems) == 1, format_check(result)
    assert all(getattr(problems[0], part) for part in ("found", "expected", "remedy"))
    return problems[0]


def test_a_good_folder_has_no_problem_and_its_classes_are_counted(site):
    for needs in (None, NEEDS):
        result = check_site_folder(site, needs=needs)
        assert result.problems == ()
        assert result.class_counts["training"] == {0: 1, 1: 3}
        text = format_check(result)
        assert "classes    training: 0 normal 1, 1 disease 3" in text
        assert "sees 2 channel(s)" in text
        assert "4 slices" in text


def test_classes_that_are_none(site):
    for value in ([1], "1", None, True, 1.0, 7):
        edit_list(site, lambda split, n, case, value=value: case.update({"class": value}) if split == "test" else None)
        found = {problem.found for problem in check_site_folder(site, needs=NEEDS).errors}
        assert found == {f"class {value!r}"}


def test_a_case_without_a_class(site):
    edit_list(site, lambda split, n, case: case.pop("class") if (split, n) == ("training", 1) else None)
    problem = only(check_site_folder(site, needs=NEEDS))
    assert (problem.found, problem.expected) == ("an image without class", '"class"')


def test_masks_do_not_do_where_a_task_reads_classes_and_are_not_opened_beside_them(site):
    edit_list(site, lambda split, n, case: case.update(label=case["image"].replace("images", "labels")))
    assert check_site_folder(site, needs=NEEDS).errors == ()
    edit_list(site, lambda split, n, case: case.pop("class") if (split, n) == ("test", 0) else None)
    problem = only(check_site_folder(site, needs=NEEDS))
    assert '"label" and no "class" (test[0])' in problem.found
    assert problem.expected == '"class", a class for every image, for the classification task of b'


def test_one_class_alone_and_a_missing_one_are_said(site):
    edit_list(site, lambda split, n, case: case.update({"class": 1}) if split == "training" else None)
    problem = only(check_site_folder(site, needs=NEEDS), "warning")
    assert problem.found == "no case of class 0 ('normal') in 'training': this site does not learn it"
    edit_list(site, lambda split, n, case: case.update({"class": n % 2}))
    edit_labels(site, {"0": "normal", "1": "dilated", "2": "thick"})
    result = check_site_folder(site, needs=replace(NEEDS, classes=3))
    assert result.errors == ()
    assert only(result, "warning").found.startswith("no case of class 2 ('thick'): this site neither learns it")
    edit_list(site, lambda split, n, case: case.update({"class": 1}))
    alone = check_site_folder(site, needs=replace(NEEDS, classes=3))
    assert "no case of class 0 ('normal'), 2 ('thick')" in only(alone, "warning").found


def test_uneven_classes_are_said(site):
    file = site / "dataset.json"
    content = json.loads(file.read_text())
    first = content["training"][0]
    content["training"] = [
        {**first, "image": f"images/{n}.nii.gz", "class": int(n == 0), "patient": f"P-{n}"} for n in range(11)
    ]
    file.write_text(json.dumps(content))
    found = [problem.found for problem in check_site_folder(site, needs=NEEDS).warnings if not problem.case]
    assert "classes as uneven as 10 of 'normal', 1 of 'disease'" in found


def test_a_patient_of_both_classes_is_said(site):
    edit_list(site, lambda split, n, case: case.update(patient="P-1") if split == "training" else None)
    problem = only(check_site_folder(site, needs=NEEDS), "warning")
    assert problem.found == "1 patient(s) with cases of both classes (p-1)"


def test_the_number_of_classes_is_the_bundles(site):
    problem = only(check_site_folder(site, needs=replace(NEEDS, classes=5)))
    assert problem.expected == "5 classes, as classes=5 of b says"
    edit_labels(site, {"0": "normal"})
    assert "a second class" in {problem.expected for problem in check_site_folder(site).errors}
    edit_labels(site, {"0": "normal", "2": "disease"})
    edit_list(site, lambda split, n, case: case.update({"class": 2 * (n % 2)}))
    problem = only(check_site_folder(site, needs=NEEDS))
    assert problem.expected == "0 to 1 without a gap"
    assert problem.remedy.startswith("number the classes anew")


@pytest.mark.parametrize(
    "change",
    [lambda v, a: (v[..., 0], a), lambda v, a: (np.concatenate([v, v], 3), a)],
    ids=["one phase", "four phases"],
)
def test_another_number_of_phases_is_refused_by_check_and_by_training(site, change):
    path = edit_image(site, change)
    problem = only(check_site_folder(site, needs=NEEDS))
    assert problem.expected == "2"
    assert "end-diastole and end-systole" in problem.remedy
    with pytest.raises(UnfitFileError, match="expected 2"):
        SiteReader("image", channels=(2,)).get_data([path])


def test_two_phases_stay_refused_where_nobody_asks_for_them(site):
    path = site / "images" / "case-000.nii.gz"
    with pytest.raises(UnfitFileError, match="expected 1 or 3"):
        read_image(path)
    assert len(check_site_folder(site, needs=replace(NEEDS, channels=(1, 3))).errors) == 8
    values, meta = SiteReader("image", channels=(2,)).get_data([path])
    assert values.shape == (32, 32, 4, 2)
    assert meta["original_channel_dim"] == -1
    assert meta["spatial_shape"].tolist() == [32, 32, 4]


def test_the_slices_of_a_stack_are_the_files_third_axis(site):
    image = read_image(site / "images" / "case-000.nii.gz", (2,))
    nearest = np.abs(image.affine[2, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)).argmax()
    assert nearest != 2, "a short-axis stack whose slices are not across the body"
    assert slices_of(image) == 4


def test_a_heart_that_does_not_move_is_said(site):
    edit_image(site, lambda v, a: (np.stack([v[..., 0]] * 2, -1), a))
    assert "does not move" in only(check_site_folder(site, needs=NEEDS), "warning").found


def test_slices_are_counted_at_the_networks_spacing(site):
    assert check_site_folder(site, needs=replace(NEEDS, spacing_mm=(5.0, 10.0), slices=7)).problems == ()
    found = check_site_folder(site, needs=replace(NEEDS, slices=5)).warnings
    assert len(found) == 8
    assert all(problem.found.startswith("4 slice(s) for a network that sees 5") for problem in found)


def test_what_no_memory_holds_once_it_is_resampled_is_refused(site):
    edit_image(site, lambda v, a: (v, np.diag([900.0, 900.0, 900.0, 1.0])))
    problem = only(check_site_folder(site, needs=replace(NEEDS, spacing_mm=(1.0, 10.0))))
    assert problem.found == "32 x 32 x 4 voxels of 900 x 900 x 900 mm: 27901 x 27901 x 271 at 1 x 1 x 10 mm"
