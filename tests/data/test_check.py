"""Every kind of bad data that a site may have, each planted in a good folder and found again by name."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from sitelora.data.check import check_folder, check_site_folder, format_check
from sitelora.data.intensity import ScalePercentilesd
from sitelora.data.needs import DataNeeds
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.data.site_entries import check_entry, patient_key
from sitelora.data.site_folder import SiteDataError

LABELS = {0: "background", 1: "prostate"}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    make_phantom(root, size=TINY, sites=["site-1", "site-4"])
    return root / "prostate"


@pytest.fixture
def site(good, tmp_path):
    return shutil.copytree(good / "site-1", tmp_path / "site-1")


def edit(path, change):
    image = nib.load(path)
    values, affine = np.asarray(image.dataobj).copy(), image.affine.copy()
    changed = change(values, affine)
    values, affine = (values, affine) if changed is None else changed
    nib.save(nib.Nifti1Image(values, affine), path)


def edit_list(site, change):
    file = site / "dataset.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def only(result, severity="error"):
    problems = [p for p in result.problems if p.severity == severity]
    assert len(problems) == 1, format_check(result)
    assert all(getattr(problems[0], part) for part in ("found", "expected", "remedy"))
    return problems[0]


def test_good_folders_have_no_problem_and_a_summary(good):
    results = check_folder(good, labels=LABELS)
    assert [result.site for result in results] == ["site-1", "site-4"]
    for result in results:
        assert result.problems == ()
        assert result.case_counts == {"training": 2, "validation": 1, "test": 1}
        assert result.patients == len(result.cases) == 4
        result.raise_if_bad()
    first = results[0]
    assert sum(first.label_histogram.values()) == 4 * 32 * 32 * 6
    assert first.cases[0].extent == (32, 32, 6)
    assert first.cases[0].spacing_mm == pytest.approx((2.88, 2.88, 9.6), abs=1e-4)
    image = np.asarray(nib.load(good / "site-1/images/case-000.nii.gz").dataobj)
    assert (first.cases[0].lowest, first.cases[0].highest) == (image.min(), image.max())
    text = format_check(first)
    for part in (
        "training 2, validation 1, test 1",
        "32x32x6",
        "2.88 x 2.88 x 9.6 mm",
        "1 prostate",
        "no problem found",
    ):
        assert part in text


def test_progress_counts_cases(good):
    seen = []
    check_site_folder(good / "site-1", progress=lambda *step: seen.append(step))
    assert seen == [("site-1", n, 4) for n in (1, 2, 3, 4)]


def test_missing_folder_and_list(tmp_path):
    (absent,) = check_folder(tmp_path / "absent")
    with pytest.raises(SiteDataError, match=r"(?s)absent.*no such folder.*sitelora prepare"):
        absent.raise_if_bad()
    (empty,) = check_folder(tmp_path)
    with pytest.raises(SiteDataError, match=r"a folder without dataset\.json"):
        empty.raise_if_bad()


def test_broken_json(site):
    (site / "dataset.json").write_text("{")
    with pytest.raises(SiteDataError, match="not readable as JSON"):
        check_site_folder(site).raise_if_bad()


def test_image_without_label(site):
    edit_list(site, lambda c: c["training"][1].pop("label"))
    problem = only(check_site_folder(site))
    assert problem.case == "case-001"
    assert "without label" in problem.found


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_missing_file(site, kind):
    (site / kind / "case-002.nii.gz").unlink()
    problem = only(check_site_folder(site))
    assert (problem.case, problem.file) == ("case-002", f"{kind}/case-002.nii.gz")
    assert "no such file" in problem.found


@pytest.mark.parametrize("damage", [b"", b"not gzip at all", None])
def test_unreadable_file(site, damage):
    file = site / "images/case-000.nii.gz"
    file.write_bytes(damage if damage is not None else file.read_bytes()[:-2000])
    assert "not readable" in only(check_site_folder(site)).found


def test_file_of_another_kind(site):
    shutil.move(site / "images/case-000.nii.gz", site / "images/case-000.dcm")
    edit_list(site, lambda c: c["training"][0].update(image="images/case-000.dcm"))
    assert ".dcm" in only(check_site_folder(site)).found


def test_label_of_other_shape(site):
    edit(site / "labels/case-000.nii.gz", lambda v, a: (v[:, :, :-1], a))
    problem = only(check_site_folder(site))
    assert "(32, 32, 5)" in problem.found
    assert "(32, 32, 6)" in problem.expected


def test_label_of_other_affine(site):
    def shift(values, affine):
        affine[0, 3] += 5

    edit(site / "labels/case-000.nii.gz", shift)
    problem = only(check_site_folder(site))
    assert "5.00 mm" in problem.found
    assert problem.file == "labels/case-000.nii.gz"


def test_a_rounded_affine_is_no_problem(site):
    def round_off(values, affine):
        affine[:3, :4] += 1e-4

    edit(site / "labels/case-000.nii.gz", round_off)
    assert check_site_folder(site).problems == ()


@pytest.mark.parametrize("value", [2, 0.5, np.nan])
def test_unknown_label_value(site, value):
    def plant(values, affine):
        values = values.astype(np.float32)
        values[:2, 0, 0] = value
        return values, affine

    edit(site / "labels/case-003.nii.gz", plant)
    problem = only(check_site_folder(site))
    assert problem.found == f"unknown label value(s) {value:g} (2 voxels)"
    assert "[0, 1]" in problem.expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinity_in_an_image(site, value):
    def plant(values, affine):
        values = values.astype(np.float32)
        values[3, 4, :] = value
        return values, affine

    edit(site / "images/case-001.nii.gz", plant)
    problem = only(check_site_folder(site))
    assert (problem.case, problem.found) == ("case-001", "6 NaN or infinite value(s)")


def test_patient_in_two_splits(site):
    edit_list(site, lambda c: c["test"][0].update(patient=c["training"][0]["patient"]))
    problem = only(check_site_folder(site))
    assert "'site-1-case-000' in training and test" in problem.found


def test_the_same_image_in_two_splits_under_other_names(site):
    packed = site / "images/case-000.nii.gz"
    (site / "images/case-003.nii.gz").write_bytes(gzip.compress(gzip.decompress(packed.read_bytes()), 1))
    shutil.copy(site / "labels/case-000.nii.gz", site / "labels/case-003.nii.gz")
    problem = only(check_site_folder(site))
    assert "case-000.nii.gz (training)" in problem.found
    assert "case-003.nii.gz (test)" in problem.found


def test_the_same_image_twice_in_one_split_is_a_warning(site):
    for kind in ("images", "labels"):
        shutil.copy(site / kind / "case-000.nii.gz", site / kind / "case-001.nii.gz")
    result = check_site_folder(site)
    assert result.errors == ()
    assert "the same image 2 times" in only(result, "warning").found


def test_empty_mask_is_a_warning(site):
    edit(site / "labels/case-000.nii.gz", lambda v, a: (v * 0, a))
    result = check_site_folder(site)
    assert only(result, "warning").found == "an empty mask"
    result.raise_if_bad()


def test_empty_splits(site):
    edit_list(site, lambda c: c.update(test=[]))
    (site / "images/case-003.nii.gz").unlink()
    assert "'test'" in only(check_site_folder(site), "warning").found
    edit_list(site, lambda c: c.update(validation=c["validation"] + c.pop("training")))
    assert "'training'" in only(check_site_folder(site)).found


def test_files_that_no_case_names_are_a_warning(site):
    edit_list(site, lambda c: c.update(training=c["training"][:1]))
    assert "case-001.nii.gz" in only(check_site_folder(site), "warning").found


def test_a_constant_image_is_a_warning(site):
    edit(site / "images/case-000.nii.gz", lambda v, a: (v * 0 + 7, a))
    assert "the same value 7" in only(check_site_folder(site), "warning").found


def test_a_listed_label_that_never_occurs_is_a_warning(site):
    edit_list(site, lambda c: c["labels"].update({"2": "lesion"}))
    assert "label 2 ('lesion') in no case" in only(check_site_folder(site), "warning").found


def test_labels_of_the_job(site):
    assert check_site_folder(site, labels={0: "Background", 1: "Prostate"}).problems == ()
    problem = only(check_site_folder(site, labels={0: "background", 1: "cup", 2: "disc"}))
    assert "cup" in problem.expected


def test_all_errors_are_in_one_message(site):
    (site / "labels/case-000.nii.gz").unlink()
    edit(site / "labels/case-001.nii.gz", lambda v, a: (v * 3, a))
    result = check_site_folder(site)
    with pytest.raises(SiteDataError) as caught:
        result.raise_if_bad()
    text = str(caught.value)
    for part in ("site site-1: 2 error(s)", "case-000 (labels/case-000.nii.gz)", "unknown label value(s) 3", "; "):
        assert part in text
    assert "2 error(s)" in format_check(result)


def picture_site(tmp_path, size=(12, 10), mask_value=1):
    site = tmp_path / "clinic"
    rng = np.random.default_rng(0)
    entries = []
    for name in ("images", "labels"):
        (site / name).mkdir(parents=True)
    for n in range(3):
        Image.fromarray(rng.integers(0, 256, (12, 10), dtype=np.uint8)).save(site / f"images/{n}.png")
        mask = np.zeros(size, np.uint8)
        mask[2:5, 2:5] = mask_value
        Image.fromarray(mask).save(site / f"labels/{n}.png")
        entries.append({"image": f"images/{n}.png", "label": f"labels/{n}.png", "patient": str(n)})
    content = {"labels": {"0": "background", "1": "lungs"}}
    content |= {split: [entry] for split, entry in zip(("training", "validation", "test"), entries, strict=True)}
    (site / "dataset.json").write_text(json.dumps(content))
    return site


def test_pictures(tmp_path):
    result = check_site_folder(picture_site(tmp_path))
    assert result.problems == ()
    assert result.cases[0].extent == (12, 10)
    assert result.cases[0].spacing_mm is None
    assert result.label_histogram == {0: 3 * 111, 1: 3 * 9}


def test_pictures_with_transposed_or_unmapped_masks(tmp_path):
    transposed = check_site_folder(picture_site(tmp_path / "a", size=(10, 12)))
    assert all("label shape (10, 12)" in problem.found for problem in transposed.errors)
    assert len(transposed.errors) == 3
    unmapped = check_site_folder(picture_site(tmp_path / "b", mask_value=255))
    assert all("unknown label value(s) 255 (9 voxels)" in problem.found for problem in unmapped.errors)


def planted(site, number=0):
    """A second structure's value in every mask, as it stands in many releases."""
    for path in sorted((site / "labels").glob("*")):
        edit(path, lambda v, a: ((v > 0).astype(np.int16) * number, a))


@pytest.mark.parametrize("value", [2, 255, -1])
def test_label_values_that_are_not_0_to_n_are_refused_though_listed(site, value):
    planted(site, value)
    edit_list(site, lambda c: c.update(labels={"0": "background", str(value): "prostate"}))
    problem = only(check_site_folder(site))
    assert str(value) in problem.found
    assert problem.expected == "0 to 1 without a gap"


NEEDS = DataNeeds(bundle="b", task="segmentation", truth="label", pictures=False, classes=1, image_size=32, slices=5)


def test_what_a_bundle_expects(site, tmp_path):
    assert check_site_folder(site, needs=NEEDS).problems == ()
    assert "sees 1 channel(s), 32x32 pixels, 6 slices" in format_check(check_site_folder(site, needs=NEEDS))
    thick = check_site_folder(site, needs=replace(NEEDS, slices=7))
    assert thick.errors == ()
    assert all("6 slice(s) for a network that sees 7" in problem.found for problem in thick.warnings)
    two = only(check_site_folder(site, needs=replace(NEEDS, classes=2)))
    assert "classes=2" in two.expected
    reverse = check_site_folder(site, needs=replace(NEEDS, pictures=True)).errors
    assert [problem.found for problem in reverse] == ["a volume (NIfTI)"] * 4
    assert "pictures=false" in reverse[0].remedy
    (picture, *_) = check_site_folder(picture_site(tmp_path), needs=NEEDS).errors
    assert (picture.found, picture.expected) == ("a picture (PNG)", "volumes (pictures=false)")


def test_classes_do_not_do_for_a_segmentation(site):
    edit_list(site, lambda c: c["test"][0].update({"class": 1}) or c["test"][0].pop("label"))
    problem = only(check_site_folder(site, needs=NEEDS))
    assert '"class" and no "label" (test[0])' in problem.found
    assert "segmentation task" in problem.expected


def test_two_labels_of_one_name(site):
    edit_list(site, lambda c: c.update(labels={"0": "background", "1": "cell", "2": "Cell "}))
    (problem,) = check_site_folder(site).errors
    assert "name 'cell' stands there twice" in str(problem)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["training"][0].update(image=["a.nii.gz"]), r'image is a list, ["a.nii.gz"], expected one path'),
        (lambda c: c["training"][0].pop("patient"), "found no patient in ['image', 'label']"),
        (lambda c: c["training"][0].update(patient=" "), "patient is a text"),
        (lambda c: c["training"].append("images/a.nii.gz"), "found a text"),
        (lambda c: c["test"][0].update(label=c["test"][0]["image"]), "image and label are one file"),
    ],
)
def test_an_entry_is_told_what_is_wrong_with_it(site, change, said):
    edit_list(site, change)
    (problem,) = check_site_folder(site).errors
    assert said in str(problem)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_line_ends_are_no_problem(site, encoding):
    file = site / "dataset.json"
    text = json.dumps(json.loads(file.read_text()), indent=1)
    file.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert check_site_folder(site).problems == ()


def test_cases_that_are_listed_again(site):
    edit_list(site, lambda c: c.update(test=c["test"] * 1000))
    problem = only(check_site_folder(site))
    assert "images/case-003.nii.gz (1000 times)" in problem.found


def test_links_that_leave_the_folder_are_said(site):
    shutil.move(site / "labels", site.parent / "elsewhere")
    (site / "labels").symlink_to("../elsewhere")
    problem = only(check_site_folder(site), "warning")
    assert problem.found.startswith("4 file(s) behind links that leave the site folder")


@pytest.mark.parametrize(
    "change",
    [lambda v: (v / 1000).astype(np.float32), lambda v: v + 1024, lambda v: v.astype(np.uint16) * 50],
    ids=["thousandths", "offset", "more bits"],
)
def test_an_image_in_other_units_is_the_same_image(site, change):
    first = nib.load(site / "images/case-000.nii.gz")
    values = change(np.asarray(first.dataobj).astype(np.int16))
    nib.save(nib.Nifti1Image(values, first.affine), site / "images/case-003.nii.gz")
    edit(site / "labels/case-003.nii.gz", lambda v, a: (v, first.affine))
    problem = only(check_site_folder(site))
    assert problem.found.startswith("the same image 2 times: images/case-000.nii.gz (training), images/case-003.nii.gz")


def test_images_are_compared_by_values_and_patients_by_their_letters(site):
    edit(site / "images/case-003.nii.gz", lambda v, a: None)
    first = nib.load(site / "images/case-000.nii.gz")
    values, affine = np.asarray(first.dataobj).astype(np.float32)[::-1], first.affine @ np.diag([-1, 1, 1, 1])
    affine[:, 3] += first.affine[:, 0] * (values.shape[0] - 1)
    nib.save(nib.Nifti1Image(values, affine), site / "images/case-003.nii.gz")
    edit(site / "labels/case-003.nii.gz", lambda v, a: (v, affine))
    assert "the same image 2 times" in only(check_site_folder(site)).found
    (site / "images/case-003.nii.gz").write_bytes((site / "images/case-001.nii.gz").read_bytes())
    edit(site / "images/case-003.nii.gz", lambda v, a: (np.roll(v, 1, axis=0), affine))
    edit_list(site, lambda c: c["training"][0].update(patient="P-9") or c["test"][0].update(patient="p-9 "))
    assert only(check_site_folder(site)).found == "patient 'P-9' or 'p-9 ' in training and test"


def test_what_training_sees_is_reported(site):
    def block(values, affine):
        values = np.zeros((32, 32, 6), np.int16)
        values[3:6, 3:6, 2:5] = 3000
        return values, affine

    edit(site / "images/case-000.nii.gz", block)
    result = check_site_folder(site)
    assert "98 of 100 values are 0: scaled by the extremes" in only(result, "warning").found
    seen = result.cases[0].seen
    assert (seen.low, seen.high, seen.by) == (0, 3000, "extremes")
    assert seen.mean == pytest.approx(27 / (32 * 32 * 6))
    scaled = ScalePercentilesd("x")(
        {"x": torch.as_tensor(np.asarray(nib.load(site / "images/case-001.nii.gz").dataobj))}
    )
    assert result.cases[1].seen.mean == pytest.approx(float(scaled["x"].mean()), abs=2e-3)


def test_one_number_of_channels_in_training_and_one_kind_at_a_site(tmp_path):
    site = picture_site(tmp_path)
    edit_list(site, lambda c: c.update(training=c["training"] + c.pop("validation")))
    values = np.random.default_rng(5).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(values).save(site / "images/1.png")
    assert "3 channel(s) (1)" in only(check_site_folder(site)).found
    nib.save(nib.Nifti1Image(values.transpose(2, 0, 1), np.eye(4)), site / "images/1.nii")
    nib.save(nib.Nifti1Image((values.transpose(2, 0, 1) > 99).astype(np.uint8), np.eye(4)), site / "labels/1.nii")
    edit_list(site, lambda c: c["training"][1].update(image="images/1.nii", label="labels/1.nii"))
    assert "a volume (1) at one site" in only(check_site_folder(site)).found


def test_other_channels_outside_training_are_a_warning(tmp_path):
    site = picture_site(tmp_path)
    assert check_site_folder(site).problems == ()
    grey = np.asarray(Image.open(site / "images/2.png"))
    Image.fromarray(grey).convert("RGB").save(site / "images/2.png")
    problem = only(check_site_folder(site), "warning")
    assert problem.found == "1 image(s) of 3 channel(s) outside training (2) beside 1 channel(s) (0) in it"
    Image.fromarray(np.asarray(Image.open(site / "images/0.png"))).convert("RGB").save(site / "images/0.png")
    assert "1 image(s) of 1 channel(s) outside training (1) beside 3" in only(check_site_folder(site), "warning").found


def test_three_phases_are_said_to_be_taken_as_colours(site):
    file = site / "images/case-000.nii.gz"
    edit(file, lambda v, a: (np.stack([v, v // 2, v + 3], -1), a))
    told = [problem for problem in check_site_folder(site).warnings if problem.file == "images/case-000.nii.gz"]
    assert [one.found.startswith("three channels, taken as the colours of one image") for one in told] == [True]


AS_SOMEONE_ELSE = """
import os, sys
from pathlib import Path
from sitelora.data.check import check_folder
if os.geteuid() == 0:
    os.setuid(65534)
results = check_folder(Path(sys.argv[1]))
print([(result.site, len(result.errors)) for result in results])
print(results[0].errors[0])
"""


@pytest.mark.parametrize("closed", ["labels", "."])
def test_a_site_that_cannot_be_read_is_named_and_the_others_are_judged(good, tmp_path, closed):
    root = shutil.copytree(good, tmp_path / "data")
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)
    (root / "site-1" / closed).chmod(0)
    for path in (tmp_path, *list(tmp_path.parents)[:3]):
        path.chmod(path.stat().st_mode | 0o055)
    try:
        run = subprocess.run(
            [sys.executable, "-c", AS_SOMEONE_ELSE, str(root)], capture_output=True, text=True, check=True, cwd="/"
        )
    finally:
        (root / "site-1" / closed).chmod(0o755)
    sites, first = run.stdout.splitlines()
    assert sites == f"[('site-1', {4 if closed == 'labels' else 1}), ('site-4', 0)]"
    assert "give this user the right" in first


@pytest.mark.parametrize("how", ["path", "symlink", "hardlink"])
def test_one_file_as_image_and_label_is_an_error_under_whatever_name(site, how):
    image, label = site / "images" / "case-000.nii.gz", site / "labels" / "case-000.nii.gz"
    edit(image, lambda values, affine: ((values > np.median(values)).astype(np.uint8), affine))
    label.unlink()
    if how == "symlink":
        label.symlink_to(image)
    elif how == "hardlink":
        label.hardlink_to(image)
    else:
        edit_list(site, lambda c: c["training"][0].update(label="./images/case-000.nii.gz"))
    assert "one file as image" in only(check_site_folder(site)).found


@pytest.mark.parametrize("key", ["hospital", "labels"])
@pytest.mark.parametrize("text", ["two\nlines", "x" * 201, "right\u202eleft"])
def test_a_name_that_no_report_takes_is_an_error_before_anything_begins(site, key, text):
    edit_list(site, lambda c: c.update({key: text if key == "hospital" else {"0": "background", "1": text}}))
    (problem,) = check_site_folder(site).errors
    assert "expected a printable text of at most" in str(problem)
    assert len(str(problem).splitlines()) == 1


def test_a_file_in_place_of_another_is_named(site):
    image = site / "images" / "case-000.nii.gz"
    image.rename(image.with_name("Case-000 .NII.gz"))
    assert "one named 'Case-000 .NII.gz'" in only(check_site_folder(site)).found
    os.mkfifo(image)
    assert "a pipe or a device" in only(check_site_folder(site)).found


def test_the_root_of_all_data_is_told_from_a_dataset(tmp_path):
    make_phantom(tmp_path, size=TINY, sites=("site-1",))
    with pytest.raises(SiteDataError, match="holds no site folders but the datasets prostate: check one of them"):
        check_folder(tmp_path)


def test_labels_that_differ_between_sites_and_sites_without_a_usable_list_are_told(tmp_path):
    make_phantom(tmp_path, size=TINY, sites=["site-1", "site-2", "site-3", "site-4"])
    root = tmp_path / "prostate"
    for name, label in (("site-2", "kidney"), ("site-3", " Prostate ")):
        file = root / name / "dataset.json"
        told = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**told, "labels": {"0": "background", "1": label}}), encoding="utf-8")
    (root / "site-4" / "dataset.json").rename(root / "site-4" / "Dataset.json")
    results = {one.site: one for one in check_folder(root)}
    assert list(results) == ["site-1", "site-2", "site-3", "site-4"]
    assert not results["site-1"].errors
    assert not results["site-3"].errors
    assert "kidney" in str(results["site-2"].errors[0])
    assert "as at site-1" in str(results["site-2"].errors[0])
    assert results["site-4"].errors


@pytest.mark.parametrize("other", ["P-9\u200b", "\ufeffP-9", "P\u00ad-9", "p\u20119", "P\u20139", "P\u22129", " P-9"])
def test_a_patient_in_other_letters_that_look_alike_is_the_same(other: str) -> None:
    assert patient_key(other) == patient_key("P-9")


@pytest.mark.parametrize("key", ["image", "label", "patient"])
def test_a_name_that_utf8_cannot_hold_is_refused_by_name(key: str) -> None:
    entry = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz", "patient": "P"}
    with pytest.raises(SiteDataError, match=rf"here: {key} is .*udce9"):
        check_entry({**entry, key: "x/caf\udce9.nii.gz"}, "here")
